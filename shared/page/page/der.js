"use strict";

// Reads DER (X.690) strictly: a length that is not minimal, a tag that is not expected, and a byte that belongs to no
// field are errors.

class DerError extends Error {}

const TAG = {
    integer: 0x02, bitString: 0x03, null: 0x05, objectIdentifier: 0x06, utcTime: 0x17, generalizedTime: 0x18,
    sequence: 0x30, version: 0xa0, issuerId: 0xa1, subjectId: 0xa2, extensions: 0xa3,
};

// The fields of a constructed value, read in order.
class Fields {
    constructor(bytes) {
        this.bytes = bytes;
        this.position = 0;
    }

    // Returns the tag of the next field; undefined after the last field.
    get nextTag() {
        return this.bytes[this.position];
    }

    // Returns the content of the next field.
    read(tag) {
        if (this.nextTag !== tag) {
            throw new DerError();
        }
        const [start, end] = contentRange(this.bytes, this.position + 1);
        this.position = end;
        return this.bytes.subarray(start, end);
    }

    // Returns the fields of the next field, which is constructed.
    enter(tag) {
        return new Fields(this.read(tag));
    }

    // Skips a field that may be absent.
    skip(tag) {
        if (this.nextTag === tag) {
            this.read(tag);
        }
    }

    // Checks that every field was read.
    end() {
        if (this.position !== this.bytes.length) {
            throw new DerError();
        }
    }
}

// Returns where the content begins and ends whose length is encoded at `position`.
function contentRange(bytes, position) {
    const first = bytes[position];
    let [length, start] = [first, position + 1];
    if (first >= 0x80) {
        const count = first - 0x80;
        length = 0;
        for (const end = start + count; start < end; start += 1) {
            length = length * 256 + bytes[start];
        }
        const minimum = Math.max(0x80, 256 ** (count - 1));
        if (count < 1 || count > 3 || !(length >= minimum)) {
            throw new DerError();
        }
    }
    const end = start + length;
    // `undefined`, of a byte after the end, makes the sum NaN, which fails this comparison too.
    if (!(end <= bytes.length)) {
        throw new DerError();
    }
    return [start, end];
}

// Returns a positive INTEGER in big-endian bytes, without a leading zero byte.
function positiveInteger(content) {
    const [first, second] = content;
    if (first === undefined || first >= 0x80 || (first === 0 && !(second >= 0x80))) {
        throw new DerError();
    }
    return first === 0 ? content.subarray(1) : content;
}

// Returns the instant of a UTCTime or GeneralizedTime in the only form that RFC 5280 permits.
function instant(fields) {
    const isUtc = fields.nextTag === TAG.utcTime;
    const content = fields.read(isUtc ? TAG.utcTime : TAG.generalizedTime);
    const text = String.fromCharCode(...content);
    const match = (isUtc ? /^(\d{2})(\d{10})Z$/ : /^(\d{4})(\d{10})Z$/).exec(text);
    if (!match) {
        throw new DerError();
    }
    const year = isUtc ? Number(match[1]) + (match[1] < "50" ? 2000 : 1900) : Number(match[1]);
    const [month, day, hour, minute, second] = match[2].match(/../g).map(Number);
    const date = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
    const isCanonical = date.getUTCFullYear() === year && date.getUTCMonth() === month - 1
        && date.getUTCDate() === day && date.getUTCHours() === hour && date.getUTCMinutes() === minute
        && date.getUTCSeconds() === second;
    if (!isCanonical) {
        throw new DerError();
    }
    return date;
}
