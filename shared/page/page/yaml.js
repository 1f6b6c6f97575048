// Reads and edits manifests in a small part of YAML, the one that `kubeseal`, `seal` and `kubectl` write: mappings in
// block style. Anything that parsers could read differently is an error. Edits keep all other lines.

const KEY = String.raw`"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[A-Za-z0-9_./][A-Za-z0-9_./-]*`;
const ENTRY = new RegExp(String.raw`^( *)(${KEY}) *:(?: +(.*))?$`);
const BLOCK_SCALAR = /^[|>][-+1-9]{0,2}( +#.*)?$/;
const QUOTED = /^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')(?: +#.*)?$/;
// A list or mapping in one line, of plain words. With quotes or nesting, it could continue on the next line.
const FLOW = /^\[[\w./ ,-]*\]$|^\{[\w./ ,:-]*\}$/;
// An entry in a list. Its key is not read, so it may contain colons, as those of `managedFields` do.
const LIST_ENTRY = new RegExp(String.raw`^ *(?:${KEY}|[A-Za-z0-9_./](?:[A-Za-z0-9_./-]|:(?=\S))*) *:(?: +(.*))?$`);

function readYaml(text) {
    const lines = text.split("\n");
    const root = parseBlock(lines);
    const node = path => path.reduce((parent, key) => parent?.children.find(child => child.key === key), root);
    const textAt = path => {
        const found = node(path);
        return found && found.children.length === 0 ? scalarOf(found) : undefined;
    };
    for (const path of [["metadata"], ["metadata", "annotations"], ["spec"], ["spec", "encryptedData"]]) {
        const mapping = node(path);
        if (mapping && (mapping.isList || !["", "{}"].includes(mapping.value))) {
            throw unreadable(mapping.line);
        }
    }
    const place = placeOf(textAt, path => (node(path)?.children ?? []).map(child => child.key));
    const data = node(["spec", "encryptedData"]);
    if (!data) {
        throw new InputError("The object has no “spec.encryptedData”.");
    }
    const annotation = node(["metadata", "annotations", HINTS_ANNOTATION]);
    const merge = (items, fingerprint) => mergeLines([...lines], { data, annotation, items, fingerprint });
    return { ...place, format: "yaml", merge };
}

// Replaces and adds lines from the last to the first, so that the line numbers before a change stay valid.
function mergeLines(lines, { data, annotation, items, fingerprint }) {
    const changes = data.children.filter(child => Object.hasOwn(items, child.key))
        .map(child => [child.line, child.lastLine, [entryLine(child.indent, child.key, items[child.key])]]);
    const known = data.children.map(child => child.key);
    const indent = data.children[0]?.indent ?? data.indent + 2;
    const added = sorted(items).filter(([key]) => !known.includes(key))
        .map(([key, value]) => entryLine(indent, key, value));
    const end = (data.children.at(-1) ?? data).lastLine;
    changes.push([end + 1, end, added]);
    if (data.children.length === 0) {
        changes.push([data.line, data.line, [`${" ".repeat(data.indent)}encryptedData:`]]);
    }
    const hints = annotation && annotation.line === annotation.lastLine ? parseHints(scalarOf(annotation)) : null;
    if (hints) {
        const value = yamlQuoted(hintsText(hints, items, fingerprint));
        const line = `${" ".repeat(annotation.indent)}${HINTS_ANNOTATION}: ${value}`;
        changes.push([annotation.line, annotation.line, [line]]);
    }
    // At the same line, replace before adding in front of it.
    changes.sort(([first, last], [otherFirst, otherLast]) => otherFirst - first || otherLast - last);
    for (const [first, last, replacement] of changes) {
        lines.splice(first, last - first + 1, ...replacement);
    }
    return lines.join("\n").replace(/\n*$/, "\n");
}

function entryLine(indent, key, value) {
    return `${" ".repeat(indent)}${yamlScalar(key)}: ${yamlScalar(value)}`;
}

// Returns the root of the tree of entries: { key, value, indent, line, lastLine, children }.
function parseBlock(lines) {
    const root = { key: null, value: "", indent: -1, line: -1, lastLine: -1, children: [] };
    const open = [root];
    let isStarted = false;
    for (let i = 0; i < lines.length; i += 1) {
        const line = lineText(lines, i);
        if (isIgnored(line)) {
            continue;
        }
        if (/^---( +#.*)?$/.test(line) && !isStarted) {
            isStarted = true;
            continue;
        }
        isStarted = true;
        if (/^ *-( |$)/.test(line)) {
            i = skipList(lines, i, open);
            continue;
        }
        const node = parseEntry(line, i);
        attach(open, node);
        if (BLOCK_SCALAR.test(node.value)) {
            i = skipDeeper(lines, i, node.indent);
            node.isBlockScalar = true;
        }
        node.lastLine = i;
    }
    return root;
}

function parseEntry(line, i) {
    const match = ENTRY.exec(line);
    if (!match || /^(---|\.\.\.)/.test(line)) {
        throw unreadable(i);
    }
    const [, spaces, key, rest = ""] = match;
    const value = valueText(rest, i);
    return { key: unquoted(key, i), value, indent: spaces.length, line: i, lastLine: i, children: [] };
}

// Returns the value without a comment. Throws an error for anchors, aliases, tags and values that continue on the next
// line.
function valueText(rest, i) {
    if (rest === "" || rest.startsWith("#")) {
        return "";
    }
    if (/^["']/.test(rest)) {
        const match = QUOTED.exec(rest);
        if (!match) {
            throw unreadable(i);
        }
        return match[1];
    }
    const value = rest.replace(/ +#.*$/, "");
    const isScalar = BLOCK_SCALAR.test(value) || (!/^[&*!%@`{}[\],|>?"'-]/.test(value) && !/: |:$/.test(value));
    if (!FLOW.test(value) && !isScalar) {
        throw unreadable(i);
    }
    return value;
}

// Adds an entry to the mapping that its indentation belongs to, and closes the mappings that it ends.
function attach(open, node) {
    while (open.at(-1).indent >= node.indent) {
        open.pop();
    }
    const parent = open.at(-1);
    const isAligned = parent.children.length === 0 || parent.children[0].indent === node.indent;
    if (parent.value !== "" || parent.isList || !isAligned || open.length > MAX_DEPTH) {
        throw unreadable(node.line);
    }
    if (parent.children.some(child => child.key === node.key)) {
        throw new InputError(`Line ${node.line + 1}: the key is repeated. Remove one of them.`);
    }
    parent.children.push(node);
    open.push(node);
}

// Returns a line without the spaces and tabs at its end. For YAML, no other character is white space.
function lineText(lines, i) {
    return lines[i].replace(/[ \t]+$/, "");
}

function isIgnored(line) {
    return /^ *(#|$)/.test(line);
}

// Skips a list, which none of the edited mappings contains. Returns its last line.
function skipList(lines, first, open) {
    const indent = lines[first].search(/[^ ]/);
    while (open.at(-1).indent > indent) {
        open.pop();
    }
    const parent = open.at(-1);
    if (parent.key === null || parent.value !== "" || parent.children.length > 0) {
        throw unreadable(first);
    }
    parent.isList = true;
    const isItem = new RegExp(`^ {${indent}}-( |$)`);
    let next = first;
    while (next < lines.length) {
        const line = lineText(lines, next);
        if (!isIgnored(line)) {
            if (line.search(/[^ ]/) <= indent && !isItem.test(line)) {
                break;
            }
            next = lastLineOfValue(lines, next);
        }
        next += 1;
    }
    return next - 1;
}

// Checks that the value in a line of a list ends where every parser ends it: a quote that stays open would hide the
// entries after it. Returns the last line of the value.
function lastLineOfValue(lines, i) {
    const line = lineText(lines, i);
    const [dashes] = /^ *(?:- +)*-?(?= |$)|^ */.exec(line);
    const rest = line.slice(dashes.length).trimStart();
    const column = line.length - rest.length;
    const entry = LIST_ENTRY.exec(rest);
    const value = valueText(entry ? entry[1] ?? "" : rest, i);
    if (!BLOCK_SCALAR.test(value)) {
        return i;
    }
    const isItem = dashes.includes("-");
    if (!entry && !isItem) {
        throw unreadable(i);
    }
    return skipDeeper(lines, i, entry ? column : dashes.lastIndexOf("-"));
}

// Returns the last of the lines after `first` with a deeper indentation. Includes empty lines between them.
function skipDeeper(lines, first, indent) {
    let last = first;
    for (let i = first + 1; i < lines.length; i += 1) {
        const start = lines[i].search(/[^ ]/);
        if (start > indent) {
            last = i;
        } else if (start !== -1) {
            break;
        }
    }
    return last;
}

// Returns the string of an entry; undefined if its value is not a string in quotes, or one that needs none.
function scalarOf({ value, line, isBlockScalar }) {
    if (isBlockScalar) {
        return undefined;
    }
    return /^["']/.test(value) || isPlainScalar(value) ? unquoted(value, line) : undefined;
}

function unquoted(text, i) {
    if (text.startsWith("'")) {
        return text.slice(1, -1).replaceAll("''", "'");
    }
    if (!text.startsWith('"')) {
        return text;
    }
    try {
        return JSON.parse(text);
    } catch {
        throw unreadable(i);
    }
}

function unreadable(i) {
    return new InputError(`Line ${i + 1} is in a form that this page does not read. ${TOO_COMPLEX}`);
}
