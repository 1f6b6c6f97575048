// Writes SealedSecrets as JSON and YAML, and adds items to an existing SealedSecret.

const API_VERSION = "bitnami.com/v1alpha1";

// Returns a new SealedSecret. `items` maps item names to sealed values.
function newObject({ name, namespace, scope, type, items, fingerprint }) {
    const place = { name, ...(namespace === "" ? {} : { namespace }) };
    const annotation = SCOPE_ANNOTATIONS[scope];
    const scopeAnnotations = annotation === null ? {} : { [annotation]: "true" };
    const hints = { [HINTS_ANNOTATION]: hintsText({}, items, fingerprint) };
    const template = annotation === null ? place : { annotations: scopeAnnotations, ...place };
    return {
        apiVersion: API_VERSION,
        kind: "SealedSecret",
        metadata: { annotations: { ...scopeAnnotations, ...hints }, ...place },
        spec: { encryptedData: Object.fromEntries(sorted(items)), template: { metadata: template, type } },
    };
}

// Returns the annotation that names the certificate of each item.
function hintsText(hints, items, fingerprint) {
    const added = Object.keys(items).map(key => [key, fingerprint]);
    return JSON.stringify(Object.fromEntries(sorted({ ...hints, ...Object.fromEntries(added) })));
}

// Returns the entries of a mapping, ordered by key.
function sorted(mapping) {
    return Object.entries(mapping).sort(([a], [b]) => (a < b ? -1 : 1));
}

function toJson(object) {
    return `${JSON.stringify(object, null, 2)}\n`;
}

// Writes nested mappings of strings as YAML in block style.
function toYaml(mapping, indent = "") {
    const lines = sorted(mapping).map(([key, value]) => (typeof value === "string"
        ? `${indent}${yamlScalar(key)}: ${yamlScalar(value)}\n`
        : `${indent}${yamlScalar(key)}:\n${toYaml(value, `${indent}  `)}`));
    return lines.join("");
}

// Quotes a string that a YAML parser could read as something else.
function yamlScalar(text) {
    return isPlainScalar(text) ? text : yamlQuoted(text);
}

function yamlQuoted(text) {
    return `'${text.replaceAll("'", "''")}'`;
}

// Returns whether every YAML parser reads the text without quotes as this string. Base64 contains `+`, `/` and `=`.
function isPlainScalar(text) {
    return /^[A-Za-z][A-Za-z0-9._/+=-]*$/.test(text) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(text);
}

// The deepest nesting of an existing manifest; a manifest of a SealedSecret has six levels.
const MAX_DEPTH = 50;
const TOO_COMPLEX = "Use “seal set” for this file.";

// Reads an existing SealedSecret in JSON or YAML. Returns where its values can be unsealed, and a function that
// returns the text with added or replaced items.
function readExisting(text) {
    if (text.trim() === "") {
        throw new InputError("Paste the SealedSecret that the items are added to, or open its file.");
    }
    const source = text.replace(/^\u{feff}/u, "").replace(/\r\n/g, "\n");
    if (/[\r\u0085\u2028\u2029]/.test(source)) {
        throw new InputError(`The text has line breaks that programs read differently. ${TOO_COMPLEX}`);
    }
    return source.trimStart().startsWith("{") ? readJson(source) : readYaml(source);
}

function readJson(text) {
    let object;
    try {
        object = JSON.parse(text);
    } catch {
        throw new InputError("This is not valid JSON. Copy the whole file again.");
    }
    const keys = text.match(/"(?:[^"\\]|\\.)*"(?=\s*:)/g) ?? [];
    if (keys.length !== countKeys(object)) {
        throw new InputError("A key is repeated, so programs read this text differently. Remove one of them.");
    }
    const place = placeOf(path => valueAt(object, path), path => Object.keys(valueAt(object, path) ?? {}));
    const data = valueAt(object, ["spec", "encryptedData"]);
    if (typeof data !== "object" || data === null || Array.isArray(data)) {
        throw new InputError("The object has no “spec.encryptedData”.");
    }
    const merge = (items, fingerprint) => {
        const changed = structuredClone(object);
        // Not assigned, since an item may have the name “__proto__”.
        changed.spec.encryptedData = Object.fromEntries([...Object.entries(data), ...Object.entries(items)]);
        const annotations = changed.metadata.annotations;
        const hints = parseHints(annotations?.[HINTS_ANNOTATION]);
        if (hints) {
            annotations[HINTS_ANNOTATION] = hintsText(hints, items, fingerprint);
        }
        return toJson(changed);
    };
    return { ...place, format: "json", merge };
}

function countKeys(value, depth = 0) {
    if (depth > MAX_DEPTH) {
        throw new InputError(`The text is nested too deeply. ${TOO_COMPLEX}`);
    }
    if (typeof value !== "object" || value === null) {
        return 0;
    }
    const own = Array.isArray(value) ? 0 : Object.keys(value).length;
    return Object.values(value).reduce((sum, child) => sum + countKeys(child, depth + 1), own);
}

function valueAt(object, path) {
    return path.reduce((value, key) => (Object.hasOwn(value ?? {}, key) ? value[key] : undefined), object);
}

// Checks an existing SealedSecret, and returns its name, namespace, scope and items.
function placeOf(textAt, keysAt) {
    if (textAt(["apiVersion"]) !== API_VERSION || textAt(["kind"]) !== "SealedSecret") {
        throw new InputError("This is not a SealedSecret.");
    }
    if (keysAt(["spec"]).includes("data")) {
        throw new InputError(`The values are sealed as a whole, in the old form. ${TOO_COMPLEX}`);
    }
    const items = keysAt(["spec", "encryptedData"]);
    const isV2 = key => key.startsWith("/") || String(textAt(["spec", "encryptedData", key])).startsWith("seal2.");
    if (items.some(isV2)) {
        throw new InputError(`The object has values in the format v2; this page seals v1 only. ${TOO_COMPLEX}`);
    }
    const isAnnotation = key => keysAt(["metadata", "annotations"]).includes(key);
    const annotations = Object.values(SCOPE_ANNOTATIONS).filter(isAnnotation);
    const texts = [["metadata", "name"], ...annotations.map(key => ["metadata", "annotations", key])];
    for (const path of texts) {
        if (typeof textAt(path) !== "string") {
            throw new InputError(`“${path.at(-1)}” is missing, or is not a string in quotes. ${TOO_COMPLEX}`);
        }
    }
    const isDeclared = scope => textAt(["metadata", "annotations", SCOPE_ANNOTATIONS[scope]]) === "true";
    const scope = ["cluster-wide", "namespace-wide"].find(isDeclared) ?? "strict";
    const [name, namespace] = [textAt(["metadata", "name"]), textAt(["metadata", "namespace"]) ?? ""];
    const problem = objectNameProblem(name) ?? (namespace === "" && scope === "cluster-wide"
        ? null : namespaceProblem(namespace));
    if (problem) {
        throw new InputError(`The name or namespace of the object cannot be used. ${problem}`);
    }
    return { name, namespace, scope, items };
}

// Parses key hints; returns null if there are none, or they are malformed.
function parseHints(text) {
    try {
        const hints = JSON.parse(text ?? "");
        return typeof hints === "object" && !Array.isArray(hints) ? hints : null;
    } catch {
        return null;
    }
}
