// The form: shows what applies, checks the input, seals, and shows the result.

const $ = id => document.getElementById(id);

const DAY = 24 * 60 * 60 * 1000;
const SOON = 30 * DAY;
const MAX_RANDOM_LENGTH = 4096;
const MIN_RANDOM_LENGTH = 8;
const MAX_TEXT_FILE_LENGTH = 4 * 1024 * 1024;

// What the user has entered so far, apart from the fields themselves. `sealed` has no plain values.
const state = { certificate: null, certificateRun: 0, existing: null, sealed: null, isSealing: false, itemCount: 0 };

function purpose() {
    return document.querySelector("#purpose input:checked").value;
}

function scope() {
    return document.querySelector("#scope input:checked").value;
}

// Returns the type that the values are checked for; an existing object and a single value are not checked.
function type() {
    return purpose() === "new" ? $("type").value : "Opaque";
}

// Shows a message next to its field, or removes it.
function report(field, error, message) {
    error.textContent = message ?? "";
    if (message) {
        field.setAttribute("aria-invalid", "true");
    } else {
        field.removeAttribute("aria-invalid");
    }
    return !message;
}

function reportField(id, message) {
    return report($(id), $(`${id}-error`), message);
}

// ---- The certificate ----

function pinnedCertificate() {
    return $("pinned").textContent;
}

function certificateField() {
    return pinnedCertificate() === "" ? "certificate" : null;
}

// Reads the certificate, and shows its properties or a message. Of two runs at the same time, the last one counts.
async function updateCertificate() {
    state.certificateRun += 1;
    const run = state.certificateRun;
    const text = pinnedCertificate() || $("certificate").value;
    let [certificate, problem] = [null, null];
    try {
        certificate = await readCertificate(text);
        problem = validityProblem(certificate);
    } catch (error) {
        problem = messageOf(error);
    }
    if (run !== state.certificateRun) {
        return;
    }
    if (problem === PRIVATE_KEY) {
        $("certificate").value = "";
    }
    state.certificate = problem ? null : certificate;
    showCertificate(certificate);
    showCertificateProblem(text.trim() === "" ? null : problem);
    if (certificate && $("expected").value.trim() !== "") {
        reportField("expected", expectedProblem(certificate));
    }
}

function validityProblem({ notAfter }) {
    return Date.now() > notAfter.getTime()
        ? `This certificate expired on ${dateText(notAfter)}. Ask the administrator for the current one.` : null;
}

function showCertificateProblem(problem) {
    if (certificateField()) {
        reportField("certificate", problem);
    } else {
        $("pinned-error").textContent = problem ? `This page cannot be used any more. ${problem}` : "";
    }
}

function showCertificate(certificate) {
    $("certificate-facts").hidden = !certificate;
    $("certificate-warning").hidden = true;
    if (!certificate) {
        return;
    }
    $("fingerprint").textContent = certificate.fingerprint;
    $("valid-until").textContent = dateText(certificate.notAfter);
    $("key-size").textContent = `RSA, ${certificate.bits} bits`;
    const warning = validityWarning(certificate);
    $("certificate-warning").textContent = warning ?? "";
    $("certificate-warning").hidden = !warning;
}

function validityWarning({ notBefore, notAfter }) {
    const now = Date.now();
    if (now < notBefore.getTime()) {
        return `This certificate is valid only from ${dateText(notBefore)}. Check the clock of this device.`;
    }
    const left = notAfter.getTime() - now;
    return left > 0 && left < SOON ? `This certificate expires soon, on ${dateText(notAfter)}.` : null;
}

function expectedProblem({ fingerprint: actual }) {
    const expected = $("expected").value.trim();
    if (expected === "" || expected === actual) {
        return null;
    }
    return /^SHA256:[A-Za-z0-9+/]{43}$/.test(expected)
        ? "The certificate has another fingerprint. It may belong to another cluster, or to an attacker."
        : "A fingerprint is “SHA256:” and 43 characters.";
}

function dateText(date) {
    return date.toLocaleDateString("en", { year: "numeric", month: "long", day: "numeric", timeZone: "UTC" });
}

function messageOf(error) {
    return error instanceof InputError ? error.message : "This cannot be read.";
}

// ---- Which fields apply ----

function updateFields() {
    const [what, where] = [purpose(), scope()];
    $("existing-field").hidden = what !== "merge";
    $("type-field").hidden = what !== "new";
    $("add").hidden = what === "raw";
    const isFromExisting = what === "merge";
    $("name-field").hidden = what === "raw" && where !== "strict";
    $("namespace-field").hidden = what === "raw" && where === "cluster-wide";
    for (const id of ["name", "namespace"]) {
        $(id).readOnly = isFromExisting;
    }
    for (const radio of document.querySelectorAll("#scope input")) {
        radio.disabled = isFromExisting;
    }
    for (const id of ["name", "namespace", "existing"]) {
        reportField(id, null);
    }
    $("items-error").textContent = "";
    updateItems();
}

// Reads the existing SealedSecret, which determines name, namespace and scope.
function updateExisting() {
    state.existing = null;
    $("existing-note").textContent = "";
    const text = $("existing").value;
    try {
        state.existing = readExisting(text);
    } catch (error) {
        return reportField("existing", messageOf(error));
    }
    const { name, namespace, scope: declared, items } = state.existing;
    [$("name").value, $("namespace").value] = [name, namespace];
    document.querySelector(`#scope input[value="${declared}"]`).checked = true;
    $("existing-note").textContent = items.length === 0 ? "It has no items yet."
        : `It has ${count(items.length, "item")}: ${items.slice(0, 20).join(", ")}${items.length > 20 ? ", …" : ""}.`;
    return reportField("existing", null);
}

function count(number, noun) {
    return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

// ---- Items ----

// Returns the element of a part of an item, such as the field of its key.
function part(item, name) {
    return item.querySelector(`[data-part="${name}"]`);
}

function control(item, name) {
    return part(item, name).querySelector("input, select, textarea");
}

function reportPart(item, name, message) {
    return report(control(item, name), part(item, name).querySelector(".error"), message);
}

function allItems() {
    return [...$("items").children];
}

// Returns the items that apply: all of them, or the first one if only one value is sealed.
function usedItems() {
    return purpose() === "raw" ? allItems().slice(0, 1) : allItems();
}

function addItem(key = "") {
    state.itemCount += 1;
    const item = $("item-template").content.firstElementChild.cloneNode(true);
    for (const element of item.querySelectorAll("[data-part]")) {
        connectLabel(element, `item-${state.itemCount}-${element.dataset.part}`);
    }
    control(item, "key").value = key;
    control(item, "source").addEventListener("change", () => {
        clearItem(item);
        updateItem(item);
    });
    control(item, "text").addEventListener("input", () => noteText(item));
    control(item, "file").addEventListener("change", () => noteFile(item));
    item.querySelector(".remove").addEventListener("click", () => removeItem(item));
    item.querySelector(".reveal").addEventListener("click", event => toggleReveal(item, event.currentTarget));
    $("items").append(item);
    updateItem(item);
    return item;
}

// Gives the control of a part an identifier, and names its label, note and message.
function connectLabel(element, id) {
    const field = element.querySelector("input, select, textarea");
    if (element.classList.contains("pair")) {
        return;
    }
    field.id = id;
    element.querySelector("label").htmlFor = id;
    const notes = [...element.querySelectorAll(".note, .error")];
    notes.forEach((note, i) => {
        note.id = `${id}-note-${i}`;
    });
    if (notes.length > 0) {
        field.setAttribute("aria-describedby", notes.map(note => note.id).join(" "));
    }
}

function updateItem(item) {
    const source = control(item, "source").value;
    for (const name of ["text", "file", "random"]) {
        part(item, name).hidden = name !== source;
    }
    const required = TYPES[type()];
    const isRequired = required.includes(control(item, "key").value) && item.dataset.required === "true";
    control(item, "key").readOnly = isRequired;
    const isRemovable = !isRequired || type() === BASIC_AUTH;
    item.querySelector(".remove").hidden = !isRemovable || allItems().length === 1 || purpose() === "raw";
    part(item, "key").hidden = purpose() === "raw";
}

function updateItems() {
    allItems().forEach((item, i) => {
        item.hidden = purpose() === "raw" && i > 0;
        updateItem(item);
        const key = control(item, "key").value.trim();
        item.querySelector(".remove").setAttribute("aria-label", `Remove the item ${key || i + 1}`);
    });
}

// Adds the items that the type requires, and removes empty ones that only another type requires.
function updateRequired() {
    const required = TYPES[type()];
    for (const item of allItems()) {
        const key = control(item, "key").value;
        item.dataset.required = String(required.includes(key));
        if (isEmpty(item) && !required.includes(key) && (key === "" || isKnownKey(key))) {
            item.remove();
        }
    }
    const existing = allItems().map(item => control(item, "key").value);
    for (const key of required.filter(key => !existing.includes(key))) {
        addItem(key).dataset.required = "true";
    }
    if (allItems().length === 0) {
        addItem();
    }
    updateItems();
}

function isKnownKey(key) {
    return Object.values(TYPES).flat().includes(key);
}

function isEmpty(item) {
    return control(item, "source").value !== "random" && control(item, "text").value === ""
        && control(item, "file").files.length === 0;
}

function removeItem(item) {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    clearItem(item);
    item.remove();
    updateItems();
    (next ? control(next, "key") : $("add")).focus();
}

function toggleReveal(item, button) {
    const isShown = button.getAttribute("aria-pressed") === "true";
    setReveal(item, !isShown);
}

function setReveal(item, isShown) {
    const button = item.querySelector(".reveal");
    button.setAttribute("aria-pressed", String(isShown));
    button.textContent = isShown ? "Hide" : "Show";
    control(item, "text").classList.toggle("masked", !isShown);
}

function noteText(item) {
    const text = control(item, "text").value;
    part(item, "text").querySelector(".note").textContent = /\n$/.test(text)
        ? "Ends with a line break, which is sealed too." : /^\s|\s$/.test(text)
            ? "Begins or ends with a space, which is sealed too." : "";
    reportPart(item, "text", null);
}

function noteFile(item) {
    const [file] = control(item, "file").files;
    part(item, "file").querySelector(".note").textContent = file ? size(file.size) : "";
    reportPart(item, "file", file ? lengthProblem(file.size) : null);
    if (file && control(item, "key").value === "" && itemNameProblem(file.name) === null) {
        control(item, "key").value = file.name;
        reportPart(item, "key", null);
    }
}

// Removes the plain value of an item.
function clearItem(item) {
    control(item, "text").value = "";
    control(item, "file").value = "";
    setReveal(item, false);
    for (const note of item.querySelectorAll('[data-part="text"] .note, [data-part="file"] .note')) {
        note.textContent = "";
    }
    for (const name of ["key", "text", "file", "length"]) {
        reportPart(item, name, null);
    }
}

function clearValues() {
    allItems().forEach(clearItem);
}

// ---- Checks and sealing ----

// Checks everything except the values. Returns whether no problem was found; shows each problem next to its field.
function checkFields() {
    const what = purpose();
    const results = [checkCertificate()];
    if (what === "merge") {
        results.push(updateExisting());
    } else {
        const needsNamespace = scope() !== "cluster-wide" || (what === "new" && $("namespace").value.trim() !== "");
        const needsName = what === "new" || scope() === "strict";
        results.push(reportField("namespace", needsNamespace ? namespaceProblem($("namespace").value.trim()) : null));
        results.push(reportField("name", needsName ? objectNameProblem($("name").value.trim()) : null));
    }
    results.push(...(what === "raw" ? [] : checkKeys()), checkRequired());
    return results.every(Boolean);
}

function checkCertificate() {
    const problem = state.certificate ? validityProblem(state.certificate) : null;
    if (!state.certificate || problem) {
        const shown = certificateField() ? $("certificate-error").textContent : $("pinned-error").textContent;
        showCertificateProblem(problem ?? (shown || whyNoCertificate("")));
        return false;
    }
    return certificateField() ? reportField("expected", expectedProblem(state.certificate)) : true;
}

function checkKeys() {
    const keys = allItems().map(item => control(item, "key").value.trim());
    return allItems().map((item, i) => {
        const isRepeated = keys.indexOf(keys[i]) !== i;
        const problem = itemNameProblem(keys[i]) ?? (isRepeated ? "Another item has this name." : null);
        return reportPart(item, "key", problem);
    });
}

function checkRequired() {
    const keys = allItems().map(item => control(item, "key").value.trim());
    const required = TYPES[type()];
    const isMet = type() === BASIC_AUTH ? required.some(key => keys.includes(key))
        : required.every(key => keys.includes(key));
    const names = required.join(type() === BASIC_AUTH ? " or " : " and ");
    $("items-error").textContent = isMet ? "" : `A Secret of this type needs the item ${names}.`;
    return isMet;
}

// Returns the value of an item as bytes; null after a message about a wrong value.
async function readValue(item) {
    const source = control(item, "source").value;
    if (source === "random") {
        const length = Number(control(item, "length").value);
        const isValid = Number.isInteger(length) && length >= MIN_RANDOM_LENGTH && length <= MAX_RANDOM_LENGTH;
        const problem = `Enter a number from ${MIN_RANDOM_LENGTH} to ${MAX_RANDOM_LENGTH}.`;
        return reportPart(item, "length", isValid ? null : problem)
            ? randomValue(length, control(item, "alphabet").value) : null;
    }
    const bytes = source === "text" ? new TextEncoder().encode(control(item, "text").value) : await readFile(item);
    if (bytes === null) {
        return null;
    }
    const missing = bytes.length === 0 ? (source === "text" ? "Enter the value." : "The file is empty.") : null;
    const problem = missing ?? lengthProblem(bytes.length)
        ?? valueProblem(type(), control(item, "key").value.trim(), bytes);
    if (reportPart(item, source, problem)) {
        return bytes;
    }
    bytes.fill(0);
    return null;
}

async function readFile(item) {
    const [file] = control(item, "file").files;
    const problem = file ? lengthProblem(file.size) : "Choose a file.";
    if (!reportPart(item, "file", problem)) {
        return null;
    }
    try {
        return new Uint8Array(await file.arrayBuffer());
    } catch {
        reportPart(item, "file", "The file cannot be read. Choose it again.");
        return null;
    }
}

// Checks the input, seals it, and shows the result. Does nothing while an earlier call has not ended.
async function seal() {
    if (state.isSealing) {
        return;
    }
    state.isSealing = true;
    try {
        await sealOnce();
    } catch {
        setStatus("Nothing was sealed: the browser refused to encrypt.", true);
    } finally {
        state.isSealing = false;
    }
}

async function sealOnce() {
    setStatus("Sealing…");
    hideResult();
    clearMessages();
    await updateCertificate();
    const areFieldsValid = checkFields();
    const [items, target] = [usedItems(), currentTarget()];
    const values = await Promise.all(items.map(readValue));
    try {
        if (!areFieldsValid || values.includes(null)) {
            showProblems();
            return;
        }
        const total = values.reduce((sum, value) => sum + value.length, 0);
        if (lengthProblem(total)) {
            $("items-error").textContent = `The values are ${size(total)} together; a Secret has at most 1 MiB.`;
            showProblems();
            return;
        }
        state.sealed = await sealValues(target, values);
    } finally {
        values.forEach(value => value?.fill(0));
    }
    clearValues();
    showResult();
}

// Returns everything that the values are sealed for. It does not change while they are read and sealed.
function currentTarget() {
    const { certificate, existing } = state;
    const [name, namespace] = [$("name").value.trim(), $("namespace").value.trim()];
    const keys = usedItems().map(item => control(item, "key").value.trim());
    return { what: purpose(), name, namespace, scope: scope(), type: type(), keys, certificate, existing };
}

// Returns the sealed values and what they are sealed for.
async function sealValues(target, values) {
    const { spki, fingerprint: sealedFor } = target.certificate;
    const sealed = await Promise.all(values.map(value => sealValue(spki, labelOf(target), value)));
    const items = Object.fromEntries(target.keys.map((key, i) => [key, sealed[i]]));
    return { ...target, fingerprint: sealedFor, items, first: sealed[0] };
}

function clearMessages() {
    for (const error of document.querySelectorAll("form .error")) {
        error.textContent = "";
    }
    for (const field of document.querySelectorAll("form [aria-invalid]")) {
        field.removeAttribute("aria-invalid");
    }
}

function showProblems() {
    const messages = [...document.querySelectorAll("form .error")].filter(error => error.textContent !== "");
    const verb = messages.length === 1 ? "needs" : "need";
    setStatus(`Nothing was sealed: ${count(messages.length, "field")} ${verb} attention.`, true);
    document.querySelector('form [aria-invalid="true"]')?.focus();
}

function setStatus(text, isBad = false) {
    $("status").textContent = text;
    $("status").classList.toggle("bad", isBad);
}

// ---- The result ----

function hideResult() {
    state.sealed = null;
    $("result").hidden = true;
    $("output").value = "";
    $("copied").textContent = "";
}

function showResult() {
    const { what, items, name, namespace } = state.sealed;
    const number = what === "raw" ? 1 : Object.keys(items).length;
    const place = what === "raw" ? "" : ` for ${namespace ? `${namespace}/` : ""}${name}`;
    $("summary").textContent = `Sealed ${count(number, "value")}${place}. The plain values were cleared from the form.`;
    $("format").hidden = what !== "new";
    $("output").classList.toggle("wrapped", what === "raw");
    $("result").hidden = false;
    showOutput();
    setStatus("");
    $("result").focus();
}

function showOutput() {
    $("output").value = outputText(state.sealed, document.querySelector("#format input:checked").value);
    $("copied").textContent = "";
}

function outputText(sealed, format) {
    if (sealed.what === "raw") {
        return `${sealed.first}\n`;
    }
    if (sealed.what === "merge") {
        return sealed.existing.merge(sealed.items, sealed.fingerprint);
    }
    const object = newObject(sealed);
    return format === "json" ? toJson(object) : toYaml(object);
}

async function copy() {
    const text = $("output").value;
    try {
        await navigator.clipboard.writeText(text);
        $("copied").textContent = "Copied.";
    } catch {
        $("output").select();
        const isCopied = document.execCommand("copy");
        $("copied").textContent = isCopied ? "Copied." : "Select the text, and copy it with the keyboard.";
    }
}

function download() {
    const { what, name, existing } = state.sealed;
    const format = what === "new" ? document.querySelector("#format input:checked").value : existing?.format;
    const link = document.createElement("a");
    link.download = what === "raw" ? "sealed-value.txt" : `${name}.${format}`;
    link.href = URL.createObjectURL(new Blob([$("output").value], { type: "text/plain" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ---- Start ----

// Copies the text of a file to a field, as if the user had pasted it.
async function openTextFile(fileId, fieldId) {
    const [file] = $(fileId).files;
    if (!file) {
        return;
    }
    if (file.size > MAX_TEXT_FILE_LENGTH) {
        reportField(fieldId, `The file is ${size(file.size)}, which is too large.`);
        return;
    }
    $(fieldId).value = await file.text();
    $(fileId).value = "";
    $(fieldId).dispatchEvent(new Event("input"));
}

function clearForm() {
    hideResult();
    clearValues();
    $("items").replaceChildren();
    [$("existing").value, $("name").value, $("namespace").value] = ["", "", ""];
    state.existing = null;
    $("existing-note").textContent = "";
    $("type").value = "Opaque";
    updateRequired();
    updateFields();
    setStatus("Cleared.");
}

function connect() {
    $("form").addEventListener("submit", event => {
        event.preventDefault();
        seal();
    });
    $("purpose").addEventListener("change", () => {
        updateRequired();
        updateFields();
    });
    $("scope").addEventListener("change", updateFields);
    $("type").addEventListener("change", updateRequired);
    $("certificate").addEventListener("input", updateCertificate);
    $("expected").addEventListener("input", () => {
        reportField("expected", state.certificate ? expectedProblem(state.certificate) : null);
    });
    $("existing").addEventListener("input", updateExisting);
    $("certificate-file").addEventListener("change", () => openTextFile("certificate-file", "certificate"));
    $("existing-file").addEventListener("change", () => openTextFile("existing-file", "existing"));
    $("items").addEventListener("input", updateItems);
    $("add").addEventListener("click", () => {
        control(addItem(), "key").focus();
        updateItems();
    });
    $("clear").addEventListener("click", clearForm);
    $("format").addEventListener("change", showOutput);
    $("copy").addEventListener("click", copy);
    $("download").addEventListener("click", download);
    // The browser may keep the page for its back button.
    window.addEventListener("pagehide", clearForm);
}

function start() {
    if (!globalThis.crypto?.subtle) {
        $("unsupported").hidden = false;
        return;
    }
    const isPinned = pinnedCertificate() !== "";
    $("pinned-note").hidden = !isPinned;
    $("certificate-input").hidden = isPinned;
    addItem();
    updateFields();
    connect();
    $("form").hidden = false;
    if (isPinned) {
        updateCertificate();
    }
}

start();
