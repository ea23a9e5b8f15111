// Verifies a refund's receipt with the browser's WebCrypto. The same steps, in the same order and
// with the same words, as ops/refunds_ops/audit/receipt_check.py; tests/browser/test_receipts.py
// compares the two. Nothing here touches the page.

const HASH = /^[0-9a-f]{64}$/;
const HEX = /^(?:[0-9a-f]{2})*$/;
const NOT_HASHED = new Set(["entry_hash", "recorded_at", "rebuilt"]);
const EMBEDDED_START = '<script type="application/json" id="receipt">';
const EMBEDDED_END = "</" + "script>";

class NotAReceipt extends Error {}
class NotAKey extends Error {}

// What a receipt proves. `marks` has, for each entry, which of its three checks hold: `contents`
// (its hash), `follows` (the one before) and `signed` (in the digest); undefined if not checked.
async function checkReceipt(text, key) {
  const checked = {
    receipt: null, digest: null, fingerprint: null, covered: 0,
    unproven: [], problems: [], notes: [], marks: [],
  };
  try {
    const receipt = parse(text);
    checkShape(receipt);
    checked.receipt = receipt;
    await checkEntries(checked);
    if (checked.problems.length) return checked;
    await checkDigest(checked, key);
  } catch (error) {
    if (!(error instanceof NotAReceipt)) throw error;
    checked.problems.push(error.message);
    return checked;
  }
  if (key === null) {
    checked.unproven = checked.receipt.entries.map((entry) => entry.version);
  } else if (checked.unproven.length) {
    checked.problems.push(`not proven: ${versionsText(checked.unproven)}`);
  }
  return checked;
}

function versionsText(versions) {
  const some = versions.slice(0, -1);
  const last = versions[versions.length - 1];
  return some.length ? `versions ${some.join(", ")} and ${last}` : `version ${last}`;
}

// --- Shape ---

function parse(text) {
  const start = text.indexOf(EMBEDDED_START);
  if (start >= 0) {
    text = text.slice(start + EMBEDDED_START.length).split(EMBEDDED_END, 1)[0];
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new NotAReceipt("this is not a refund's receipt: it is not JSON");
  }
}

function checkShape(receipt) {
  if (!isObject(receipt) || receipt.kind !== "refund-receipt" || receipt.version !== 1) {
    throw new NotAReceipt("this is not a refund's receipt of a known version");
  }
  requireMembers(receipt, "the receipt", { text: ["refund_id", "transaction_id"], lists: ["entries"] });
  receipt.entries.forEach((entry, index) => {
    const where = `entry ${index + 1}`;
    requireMembers(entry, where, { text: ["entry_id", "refund_id", "transaction_id"], whole: ["version"] });
    requireMembers(entry, where, { hashes: ["entry_hash"] });
    if ((entry.previous_hash ?? null) !== null) {
      requireMembers(entry, where, { hashes: ["previous_hash"] });
    }
  });
  requireMembers(receipt, "the receipt", { lists: ["proofs"] });
  receipt.proofs.forEach((proof, index) => {
    const where = `proof ${index + 1}`;
    requireMembers(proof, where, { text: ["entry_id", "file"], whole: ["leaf_index", "tree_size"] });
    requireMembers(proof, where, { lists: ["path"] });
    if (!proof.path.every(isHash)) {
      throw new NotAReceipt(`${where}: path has something that is not a hash`);
    }
  });
  const digest = receipt.digest ?? null;
  if (digest !== null) {
    requireMembers(digest, "the digest", { text: ["content", "signature"] });
    if (!HEX.test(digest.signature)) {
      throw new NotAReceipt("the digest: signature is not hexadecimal");
    }
    if ((digest.public_key ?? null) !== null) {
      requireMembers(digest, "the digest", { text: ["public_key"] });
    }
  }
}

function requireMembers(value, where, { text = [], whole = [], lists = [], hashes = [] }) {
  if (!isObject(value)) throw new NotAReceipt(`${where} is not an object`);
  const refuse = (name, what) => {
    throw new NotAReceipt(`${where}: ${name} is ${what}`);
  };
  for (const name of [...text, ...hashes]) {
    if (typeof value[name] !== "string") refuse(name, "missing or not text");
  }
  for (const name of whole) {
    if (!Number.isInteger(value[name])) refuse(name, "missing or not a whole number");
  }
  for (const name of lists) {
    if (!Array.isArray(value[name])) refuse(name, "missing or not a list");
  }
  for (const name of hashes) {
    if (!isHash(value[name])) refuse(name, "not a hash");
  }
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isHash(value) {
  return typeof value === "string" && HASH.test(value);
}

// --- Entries and chain ---

async function checkEntries(checked) {
  const { receipt, problems, marks } = checked;
  const { entries } = receipt;
  if (!entries.length) problems.push("it has no entries");
  for (const [index, entry] of entries.entries()) {
    const number = index + 1;
    const where = `entry ${number}`;
    marks.push({});
    if (entry.version !== number) {
      problems.push(`${where} is of version ${entry.version}: one is missing, or the order was changed`);
    }
    if (entry.entry_id !== `REFUND#${receipt.refund_id}#${String(number).padStart(6, "0")}`) {
      problems.push(`${where} has another refund's or version's key`);
    }
    if (["refund_id", "transaction_id"].some((name) => entry[name] !== receipt[name])) {
      problems.push(`${where} is another refund's`);
    }
    marks[index].contents = false;
    try {
      if ((await entryHash(entry)) === entry.entry_hash) {
        marks[index].contents = true;
      } else {
        problems.push(`${where} was changed: its hash is not that of its contents`);
      }
    } catch (error) {
      // A RangeError is a nesting too deep to be walked.
      if (!(error instanceof NotAReceipt || error instanceof RangeError)) throw error;
      problems.push(`${where} can't be read: it is not plain JSON`);
    }
  }
  for (let index = 1; index < entries.length; index += 1) {
    marks[index].follows = entries[index].previous_hash === entries[index - 1].entry_hash;
    if (!marks[index].follows) {
      problems.push(`entry ${entries[index].version} does not follow the one before it`);
    }
  }
  if (entries.length) {
    marks[0].follows = (entries[0].previous_hash ?? null) === null;
    if (!marks[0].follows) problems.push("the first entry says that there is one before it");
  }
}

async function entryHash(entry) {
  const names = Object.keys(entry).filter((name) => !NOT_HASHED.has(name));
  return hex(await sha256(utf8(canonicalObject(entry, names))));
}

// RFC 8785. Numbers are whole and safe: nothing else is ever in an entry, and JavaScript would have
// rounded them.
function canonical(value) {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return canonicalText(value);
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) throw new NotAReceipt("a number is not a safe integer");
    return String(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  return canonicalObject(value, Object.keys(value));
}

function canonicalObject(value, names) {
  // sort() compares UTF-16 code units, as RFC 8785 asks.
  const members = names.sort().map((name) => `${canonicalText(name)}:${canonical(value[name])}`);
  return `{${members.join(",")}}`;
}

function canonicalText(text) {
  requireUnicode(text);
  return JSON.stringify(text);
}

// A lone surrogate has no UTF-8; the encoder would put another character there.
function requireUnicode(text) {
  if (/\p{Surrogate}/u.test(text)) throw new NotAReceipt("broken Unicode");
}

// --- Digest ---

async function checkDigest(checked, key) {
  const { receipt, marks } = checked;
  const { entries } = receipt;
  const signed = receipt.digest ?? null;
  if (signed === null) {
    checked.notes.push("No signed digest covers it: anyone could have made this chain.");
    checked.unproven = entries.map((entry) => entry.version);
    return;
  }
  if (key === null) key = await ownKey(signed);
  const digest = await signedDigest(signed, key);
  const files = new Map(digest.files.map((file) => [file.key, file]));
  const proofs = new Map(receipt.proofs.map((proof) => [proof.entry_id, proof]));
  for (const [index, entry] of entries.entries()) {
    const proof = proofs.get(entry.entry_id);
    if (proof === undefined) {
      checked.notes.push(`Version ${entry.version} is in no signed digest of this receipt.`);
      checked.unproven.push(entry.version);
    } else if (await isInDigest(entry, proof, files)) {
      marks[index].signed = true;
      checked.covered += 1;
    } else {
      marks[index].signed = false;
      checked.problems.push(`entry ${entry.version} is not among those of the signed digest`);
    }
  }
  checked.digest = digest;
  checked.fingerprint = key.fingerprint;
}

async function ownKey(signed) {
  if (!signed.public_key) {
    throw new NotAReceipt("it has no public key of its own; give the one that you trust");
  }
  try {
    return await readKey(utf8(signed.public_key));
  } catch (error) {
    if (!(error instanceof NotAKey)) throw error;
    throw new NotAReceipt("its own public key can't be read");
  }
}

async function signedDigest(signed, key) {
  try {
    requireUnicode(signed.content);
  } catch {
    throw new NotAReceipt("the digest can't be read: it is broken Unicode");
  }
  if (!(await key.verifies(utf8(signed.content), bytesOf(signed.signature)))) {
    throw new NotAReceipt("the digest's signature is not by this public key");
  }
  return parseDigest(signed.content);
}

function parseDigest(content) {
  const refuse = (why) => {
    throw new NotAReceipt(`the digest can't be read: ${why}`);
  };
  let digest;
  try {
    digest = JSON.parse(content);
  } catch {
    refuse("it is not JSON");
  }
  if (!isObject(digest) || !Array.isArray(digest.exports)) refuse("it is not a digest");
  if (digest.digestVersion !== 1) refuse("its version is not known here");
  const files = [];
  for (const each of digest.exports) {
    if (!isObject(each) || !Array.isArray(each.dataFiles)) refuse("it is not a digest");
    for (const file of each.table === "audit" ? each.dataFiles : []) {
      if (!isObject(file) || !Number.isInteger(file.itemCount)) refuse("it is not a digest");
      if (file.merkleRoot) {
        files.push({ key: file.s3Object, size: file.itemCount, root: file.merkleRoot });
      }
    }
  }
  return { files, number: digest.digestSequence, end: digest.digestEndTime };
}

async function isInDigest(entry, proof, files) {
  const file = files.get(proof.file);
  if (file === undefined || proof.tree_size !== file.size || !isHash(file.root)) return false;
  return isIncluded(bytesOf(entry.entry_hash), proof.leaf_index, proof.tree_size, proof.path, file.root);
}

// RFC 9162, 2.1.3.2. Divides where the RFC shifts: JavaScript shifts only 32 bits.
async function isIncluded(data, index, size, path, root) {
  if (!(index >= 0 && index < size && Number.isSafeInteger(size))) return false;
  let node = await sha256(concat([0], data));
  let last = size - 1;
  const half = (number) => Math.floor(number / 2);
  for (const each of path) {
    const sibling = bytesOf(each);
    if (last === 0) return false;
    if (index % 2 === 1 || index === last) {
      node = await sha256(concat([1], sibling, node));
      while (index % 2 === 0 && index !== 0) {
        index = half(index);
        last = half(last);
      }
    } else {
      node = await sha256(concat([1], node, sibling));
    }
    index = half(index);
    last = half(last);
  }
  return last === 0 && hex(node) === root;
}

// --- Public key ---

// Reads PEM, or DER as KMS gives it.
async function readKey(content) {
  const der = content[0] === 0x30 ? content : pemToDer(new TextDecoder().decode(content));
  const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
  let key;
  try {
    key = await crypto.subtle.importKey("spki", der, algorithm, true, ["verify"]);
  } catch {
    throw new NotAKey("This is not an RSA public key in PEM or DER form.");
  }
  const exported = new Uint8Array(await crypto.subtle.exportKey("spki", key));
  return {
    fingerprint: hex(await sha256(exported)),
    verifies: (bytes, signature) => crypto.subtle.verify(algorithm.name, key, signature, bytes),
  };
}

function pemToDer(text) {
  const found = /-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----/.exec(text);
  if (found === null) {
    throw new NotAKey("This is not a public key. It begins with -----BEGIN PUBLIC KEY-----");
  }
  const [, kind, body] = found;
  if (kind.includes("PRIVATE")) {
    throw new NotAKey("This is a private key, which nobody but its owner may have. Give the public key.");
  }
  if (kind !== "PUBLIC KEY") {
    throw new NotAKey(`This is a ${kind.toLowerCase()}, not a public key: -----BEGIN PUBLIC KEY-----`);
  }
  try {
    return Uint8Array.from(atob(body.replace(/\s/g, "")), (each) => each.charCodeAt(0));
  } catch {
    throw new NotAKey("This public key was cut or changed: it is not base64.");
  }
}

// --- Bytes ---

async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

function utf8(text) {
  return new TextEncoder().encode(text);
}

function hex(bytes) {
  return Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("");
}

function bytesOf(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (each) => parseInt(each, 16));
}

function concat(...parts) {
  return Uint8Array.from(parts.flatMap((part) => Array.from(part)));
}
