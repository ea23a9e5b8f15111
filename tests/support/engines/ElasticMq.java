import org.elasticmq.rest.sqs.SQSRestServerBuilder;

public class ElasticMq {
    public static void main(String[] arguments) {
        int port = Integer.parseInt(arguments[0]);
        SQSRestServerBuilder.withInterface("127.0.0.1").withPort(port).withAWSRegion(arguments[1]).start();
    }
}
