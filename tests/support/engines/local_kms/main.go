// local-kms on one address. Its own program listens on every interface; its request handler is the
// same, unchanged, behind this listener.
package main

import (
	"log"
	"net"
	"net/http"
	"os"

	kms "github.com/nsmithuk/local-kms/src"
	"github.com/nsmithuk/local-kms/src/config"
	"github.com/nsmithuk/local-kms/src/data"
)

func main() {
	address, region := os.Args[1], os.Args[2]
	config.AWSAccountId = "123456789012"
	config.AWSRegion = region
	config.DatabasePath = os.Args[3]
	database := data.NewDatabase(config.DatabasePath)
	defer database.Close()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		kms.HandleRequest(w, r, database)
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, nil))
}
