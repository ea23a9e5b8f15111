// Shows a receipt and what check.js says of it. Every text goes in as text, never as markup: what a
// receipt holds was written by strangers. WORDS (sentences, currencies) stands before this script.

// The page is ASCII: no encoding can change it.
const YES = "\u2713";
const NO = "\u2717";
const DOT = "\u00b7";
const DASH = "\u2013";

const byId = (id) => document.getElementById(id);
const state = { text: byId("receipt").textContent, key: null, keyError: null, run: 0 };

const canCheck = () => window.isSecureContext && Boolean(window.crypto && crypto.subtle);

async function check() {
  const run = (state.run += 1);
  byId("verdict").setAttribute("aria-busy", "true");
  if (!canCheck()) {
    showVerdict("open", "Not checked: this browser has no WebCrypto here", [
      "Nothing on this page is verified. Open the file in a current Chromium, Firefox or Safari, or "
        + "check it on the command line.",
    ]);
    return;
  }
  const checked = await checkReceipt(state.text, state.key);
  // A newer check has begun meanwhile: its answer counts.
  if (run !== state.run) return;
  show(checked);
}

// --- The verdict ---

function show(checked) {
  const { problems, notes } = checked;
  fill("problems", problems.map((problem) => element("li", {}, problem)));
  byId("problems").hidden = problems.length < 2; // the title has the first
  fill("notes", notes.map((note) => element("li", {}, note.replace("with --public-key", "below"))));
  showVerdict(...verdictOf(checked));
  showStory(checked, problems.length === 0 || onlyUnproven(checked));
  showChecks(checked);
}

function verdictOf(checked) {
  const { receipt, problems, unproven, covered, digest } = checked;
  if (onlyUnproven(checked)) {
    return ["open", `Not proven: ${versionsText(unproven)}`, [
      digest ? "The rest checks. A backup made later covers it: ask for a receipt made after it."
        : "No backup's signature covers this refund yet. Ask for a receipt made after the next backup.",
    ]];
  }
  if (problems.length) {
    return ["bad", `${capital(problems[0])}`, [
      problems.length > 1 ? `${problems.length} problems: do not rely on this receipt.`
        : "Do not rely on this receipt.",
    ]];
  }
  const count = receipt.entries.length;
  const entries = count === 1 ? "Its one entry is" : `All ${count} entries are`;
  if (state.key !== null) {
    return ["good", "Everything checks", [
      `${entries} unchanged, in order, and signed with the key that you gave.`,
    ]];
  }
  return ["open", "Consistent, but not proven: give the public key", [
    digest ? `${entries} unchanged and in order, and ${covered} signed by the key that came with this `
      + "file. Whoever forges a receipt can bring a key along: give the key that you trust, below."
      : `${entries} unchanged and in order. No signature covers them: anyone could have made this.`,
  ]];
}

// With a trusted key, versions that no digest covers are a problem, but nobody changed anything.
function onlyUnproven({ problems, unproven }) {
  return unproven.length > 0 && problems.length === 1;
}

function showVerdict(kind, title, paragraphs) {
  const verdict = byId("verdict");
  if (state.keyError && kind !== "bad") {
    [kind, title] = ["open", "Not proven: the public key can't be read"];
    paragraphs = [state.keyError];
  }
  verdict.className = kind;
  byId("verdict-mark").textContent = { good: YES, bad: NO, open: "?" }[kind];
  byId("verdict-title").textContent = visible(title);
  fill("verdict-text", paragraphs.map((each) => element("p", {}, each)));
  document.title = `${title} ${DASH} refund receipt`;
  verdict.setAttribute("aria-busy", "false");
}

// --- The story ---

function showStory({ receipt, digest, marks }, trustworthy) {
  byId("story").hidden = receipt === null;
  byId("distrust").hidden = trustworthy;
  if (receipt === null) return;
  const { entries } = receipt;
  const last = flat(entries[entries.length - 1] ?? {});
  const details = detailsOf(entries[entries.length - 1] ?? {});
  byId("refund").textContent = visible(`Refund ${receipt.refund_id}`);
  fill("facts", [
    ["Outcome", last.outcome],
    ["Amount", amountText(details)],
    ["Payment", receipt.transaction_id],
    ["To", last.user_id],
    ["Asked by", last.requested_by],
    ["Reason", details.reason],
    ["Receipt made", timeText(flat(receipt).made_at)],
  ].flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value ?? DASH)]));
  fill("entries", entries.map((entry, index) => entryItem(receipt, digest, entry, marks[index] ?? {})));
}

function entryItem(receipt, digest, entry, mark) {
  const proof = receipt.proofs.find((each) => each.entry_id === entry.entry_id);
  const { occurred_at: at, event, processed_by: by } = flat(entry);
  const head = element("p", { class: "when" },
    element("time", {}, timeText(at)), ` ${DOT} ${event} ${DOT} by ${by}`);
  return element("li", { class: Object.values(mark).includes(false) ? "bad" : "" },
    head,
    element("p", { class: "what" }, sentence(entry)),
    element("p", { class: "marks" },
      markText(mark.contents, "contents match the hash", "contents were changed"),
      markText(mark.follows, "follows the one before", "does not follow the one before"),
      signatureMark(mark, receipt, digest)),
    element("details", {},
      element("summary", {}, `Record of version ${entry.version}, and its proof`),
      element("pre", { tabindex: "0" }, JSON.stringify(entry, null, 2)),
      element("p", {}, proof === undefined ? "No proof is in this receipt."
        : `Leaf ${proof.leaf_index + 1} of ${proof.tree_size} in ${proof.file}. Hashes on its path to the root:`),
      element("pre", { tabindex: "0" }, proof?.path.join("\n") || DASH)));
}

function signatureMark({ signed }, receipt, digest) {
  if (signed && state.key === null) return markText(undefined, "", "", "signed by the file's own key only");
  const nothing = receipt.digest && digest === null ? "signature not checked" : "no signature covers it";
  return markText(signed, "in the signed digest", "not in the signed digest", nothing);
}

function markText(holds, yes, no, unknown = "not checked") {
  const [kind, sign, text] = holds === true ? ["yes", YES, yes]
    : holds === false ? ["no", NO, no] : ["unknown", "?", unknown];
  return element("span", { class: kind }, `${sign} ${text}`);
}

function sentence(whole) {
  const entry = flat(whole);
  const details = detailsOf(whole);
  const { proposal, review, restored, awaiting, approvals, changed_fields: changes } =
    isObject(whole.details) ? whole.details : {};
  const changed = Array.isArray(changes) ? changes.map(String) : [];
  if (entry.event === WORDS.deleted_event) return WORDS.deleted;
  if (entry.event === WORDS.proposed_event && isObject(proposal)) {
    return `Proposed as ${flat(proposal).decision} by ${decisionText(proposal)}.`;
  }
  if (entry.event === WORDS.restored_event && isObject(restored)) {
    const { source, by, why } = flat(restored);
    return `Its record was restored from ${source} by ${by}: ${why}.`;
  }
  if (entry.status === "AWAITING_APPROVAL") return waitsBecause(details, awaiting) + lastApproval(approvals);
  if (entry.previous_status === entry.status && !changed.includes("review")) {
    return details.gateway_trace && changed.includes("gateway_trace")
      ? `The bank's number for it is ${details.gateway_trace}.`
      : WORDS.updated.replace("{}", () => changed.join(", ") || WORDS.nothing_shown);
  }
  const pattern = Object.hasOwn(WORDS.sentences, entry.status)
    ? WORDS.sentences[entry.status] : WORDS.other_status;
  const because = [details.failure_code, details.failure_message].filter(Boolean).join(": ");
  const values = {
    asker: entry.requested_by, amount: amountText(details), payment: entry.transaction_id,
    reason: details.reason, because: because || WORDS.no_reason, gateway: details.gateway,
    status: entry.status,
  };
  // Each value is one field of its own: nothing in it is read as a pattern.
  let text = pattern.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
  if (changed.includes("approvals")) text += lastApproval(approvals);
  if (isObject(review) && changed.includes("review")) {
    if (entry.status === "FAILED") text = recordedAsNotPaid(details);
    text += ` Decided by ${decisionText(review)}.`;
  }
  return text;
}

function recordedAsNotPaid(details) {
  const kept = Number(details.kept_minor) || 0;
  if (kept <= 0) return WORDS.decided_failed;
  const amount = amountText({ amount_minor: kept, currency: details.currency });
  return WORDS.decided_failed_moved.replace("{kept}", () => amount);
}

function waitsBecause(details, awaiting) {
  const amount = amountText(details);
  if (!isObject(awaiting)) return `${amount} is over a limit: a person must approve it.`;
  const { over, limit = "", approvers, expires_at: until } = flat(awaiting);
  const shown = over !== "user_count" && /^\d+$/.test(limit)
    ? amountText({ amount_minor: Number(limit), currency: details.currency }) : limit;
  const rule = Object.hasOwn(WORDS.rules, over) ? WORDS.rules[over] : over;
  const people = approvers === "2" ? "two people" : "a person";
  return `${amount} is over a limit (${rule} ${shown}): ${people} must approve it by ${until}.`;
}

function lastApproval(approvals) {
  const last = Array.isArray(approvals) ? approvals.at(-1) : undefined;
  if (!isObject(last)) return "";
  const decision = String(flat(last).decision);
  return ` ${decision.charAt(0).toUpperCase()}${decision.slice(1).toLowerCase()} by ${decisionText(last)}.`;
}

// Identities in full: the command line shortens them, a proof must not.
function decisionText(whole) {
  const decided = flat(whole);
  let text = `${decided.by}`;
  if (decided.on_behalf_of) text += `, on behalf of ${decided.on_behalf_of}`;
  if (decided.proposed_by) text += `, proposed by ${decided.proposed_by}`;
  text += `: ${decided.why}`;
  if (decided.evidence) text += ` (${decided.evidence})`;
  const shown = [decided.gateway, decided.balance].filter(Boolean);
  return shown.length ? `${text}; shown: ${shown.join("; ")}` : text;
}

function detailsOf(entry) {
  return flat(isObject(entry.details) ? entry.details : {});
}

// An object's members with what is nested in them as JSON: a stranger's object may not even have a
// text form.
function flat(object) {
  return Object.fromEntries(Object.entries(object).map(([name, value]) =>
    [name, typeof value === "object" && value !== null ? JSON.stringify(value) : value]));
}

function amountText({ amount_minor: minor = null, currency }) {
  if (minor === null) return WORDS.all_that_is_left;
  if (!Number.isSafeInteger(minor) || !Object.hasOwn(WORDS.exponents, currency)) {
    return `${minor} minor units of ${currency}`;
  }
  const exponent = WORDS.exponents[currency];
  if (exponent === 0) return `${minor} ${currency}`;
  const digits = String(Math.abs(minor)).padStart(exponent + 1, "0");
  return `${minor < 0 ? "-" : ""}${digits.slice(0, -exponent)}.${digits.slice(-exponent)} ${currency}`;
}

function timeText(text) {
  return String(text).replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.\d+Z$/, "$1 $2 UTC");
}

// --- What was checked ---

function showChecks({ receipt, digest, fingerprint, covered }) {
  const count = receipt?.entries.length ?? 0;
  const whose = state.key === null ? "the key that came with this file" : "the key that you gave";
  fill("checks", (receipt === null ? [] : [
    ["Entries", `${count}; each hash was computed again (SHA-256 of RFC 8785 JSON)`],
    ["In the signed digest", digest ? `${covered} of ${count} (Merkle paths, RFC 6962)` : "not checked"],
    ["Signed digest", digest ? `backup ${digest.number}, ended ${timeText(digest.end)}` : "none, or not valid"],
    ["Signed by", fingerprint === null ? DASH : `${whose}; SHA-256 of it: ${fingerprint}`],
  ]).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

// --- Elements ---

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
  return made;
}

function fill(id, children) {
  byId(id).replaceChildren(...children);
}

// Writes out what would hide or turn text around: control, format and direction characters.
function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, (each) =>
    each === "\n" ? each : `\\u{${each.codePointAt(0).toString(16)}}`);
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// --- A key or another receipt, pasted, chosen or dropped ---

async function takeKey(bytes) {
  state.key = null;
  state.keyError = null;
  if (bytes.length > 0 && canCheck()) {
    try {
      state.key = await readKey(bytes);
    } catch (error) {
      if (!(error instanceof NotAKey)) throw error;
      state.keyError = error.message;
    }
  }
  byId("key-says").textContent = state.keyError ?? (state.key ? `SHA-256 of this key: ${state.key.fingerprint}` : "");
  await check();
}

async function takeFile(file) {
  byId("verdict").setAttribute("aria-busy", "true");
  const bytes = new Uint8Array(await file.arrayBuffer());
  const text = new TextDecoder().decode(bytes);
  if (text.includes(EMBEDDED_START) || /^\s*[{[]/.test(text)) {
    await takeReceipt(bytes, file.name);
    return;
  }
  byId("key").value = bytes[0] === 0x30 ? "" : text;
  await takeKey(bytes);
}

async function takeReceipt(bytes, name) {
  try {
    state.text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    state.text = ""; // no Unicode: no receipt
  }
  byId("other-says").textContent = visible(`Now shown: ${name}, checked by the program of this page.`);
  await check();
}

byId("key").addEventListener("input", (event) => {
  byId("verdict").setAttribute("aria-busy", "true");
  takeKey(utf8(event.target.value.trim()));
});
byId("key-file").addEventListener("change", (event) => {
  if (event.target.files.length) takeFile(event.target.files[0]);
});
byId("other-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file === undefined) return;
  byId("verdict").setAttribute("aria-busy", "true");
  await takeReceipt(new Uint8Array(await file.arrayBuffer()), file.name);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  for (const file of event.dataTransfer.files) takeFile(file);
});
// Printed, the records stand open.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});

check();
