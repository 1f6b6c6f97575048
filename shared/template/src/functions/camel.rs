//! `camelcase`, `snakecase` and `kebabcase`, which split words as huandu/xstrings does.

use super::{Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::Fault;
use crate::runes;
use crate::text::Writer;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("camelcase", &[Type::Text], |env, args| {
        pascal(env, &args.text(0))
    }),
    Function::new("snakecase", &[Type::Text], |env, args| {
        join_words(env, &args.text(0), '_')
    }),
    Function::new("kebabcase", &[Type::Text], |env, args| {
        join_words(env, &args.text(0), '-')
    }),
];

/// Charges for looking up each character in several tables.
fn charge(env: &mut Environment<'_>, text: &[u8]) -> Result<(), Fault> {
    env.gauge.charge_steps(text.len() / 8)
}

fn is_connector(char: char) -> bool {
    matches!(char, '-' | '_') || runes::is_space(char)
}

/// Capitalizes each word and removes one connector between two words. Keeps further connectors between them, and all
/// leading and trailing connectors.
fn pascal(env: &mut Environment<'_>, text: &[u8]) -> Outcome {
    charge(env, text)?;
    let mut out = env.writer();
    let mut chars = runes::chars(text).peekable();
    while let Some(char) = chars.next_if(|&char| is_connector(char)) {
        // If the string consists only of connectors, the last one is written twice.
        if chars.peek().is_none() {
            out.char(char)?;
            out.char(char)?;
            return Ok(out.finish().into());
        }
        out.char(char)?;
    }
    let Some(first) = chars.next() else {
        return Ok(out.finish().into());
    };
    let mut word_upper = runes::is_upper(first);
    let mut current = runes::to_upper(first);
    for next in chars {
        let before = current;
        current = next;
        match (is_connector(current), is_connector(before)) {
            (true, true) => {
                out.char(before)?;
                continue;
            }
            (_, true) => {
                word_upper = runes::is_upper(current);
                current = runes::to_upper(current);
                continue;
            }
            _ => {}
        }
        if word_upper {
            if runes::is_upper(current) {
                current = runes::to_lower(current);
            } else {
                word_upper = false;
            }
        }
        out.char(before)?;
    }
    out.char(current)?;
    Ok(out.finish().into())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WordKind {
    Invalid,
    Number,
    Upper,
    Alphabet,
    Connector,
    Punctuation,
    Other,
}

fn join_words(env: &mut Environment<'_>, text: &[u8], connector: char) -> Outcome {
    charge(env, text)?;
    let mut out = env.writer();
    if text.is_empty() {
        return Ok(out.finish().into());
    }
    let mut words = Words {
        out: &mut out,
        connector,
        rest: text,
        kind: WordKind::Invalid,
        word: text,
    };
    words.next();
    words.run()?;
    Ok(out.finish().into())
}

struct Words<'t, 'o> {
    out: &'o mut Writer,
    connector: char,
    rest: &'t [u8],
    kind: WordKind,
    word: &'t [u8],
}

impl Words<'_, '_> {
    fn next(&mut self) {
        let (kind, len, resume) = next_word(self.rest);
        self.kind = kind;
        self.word = &self.rest[..len];
        self.rest = &self.rest[resume..];
    }

    fn run(&mut self) -> Result<(), Fault> {
        while !self.rest.is_empty() {
            if self.kind != WordKind::Connector {
                self.write(self.kind, self.word)?;
            }
            let (before, last) = (self.kind, self.word);
            self.next();
            match before {
                WordKind::Number => {
                    self.write_joined()?;
                    self.connect(&[
                        WordKind::Invalid,
                        WordKind::Punctuation,
                        WordKind::Connector,
                    ])?;
                }
                WordKind::Connector => self.write(before, last)?,
                WordKind::Punctuation => {}
                _ => self.connect_after_letters()?,
            }
        }
        self.write(self.kind, self.word)
    }

    /// Joins adjacent numbers and lower-case words.
    fn write_joined(&mut self) -> Result<(), Fault> {
        while matches!(self.kind, WordKind::Alphabet | WordKind::Number) {
            self.write(self.kind, self.word)?;
            self.next();
        }
        Ok(())
    }

    fn connect_after_letters(&mut self) -> Result<(), Fault> {
        if self.kind != WordKind::Number {
            return self.connect(&[WordKind::Connector, WordKind::Punctuation]);
        }
        if self.rest.is_empty() {
            return Ok(());
        }
        let number = self.word;
        self.next();
        if self.kind != WordKind::Alphabet {
            self.write(WordKind::Number, number)?;
            return self.connect(&[WordKind::Connector, WordKind::Punctuation]);
        }
        self.out.char(self.connector)?;
        self.write(WordKind::Number, number)?;
        self.write_joined()?;
        self.connect(&[
            WordKind::Invalid,
            WordKind::Connector,
            WordKind::Punctuation,
        ])
    }

    fn connect(&mut self, unless: &[WordKind]) -> Result<(), Fault> {
        if unless.contains(&self.kind) {
            Ok(())
        } else {
            self.out.char(self.connector)
        }
    }

    fn write(&mut self, kind: WordKind, word: &[u8]) -> Result<(), Fault> {
        if !matches!(kind, WordKind::Upper | WordKind::Connector) {
            return self.out.push(word);
        }
        for char in runes::chars(word) {
            self.out.char(if is_connector(char) {
                self.connector
            } else {
                lower_capital(char)
            })?;
        }
        Ok(())
    }
}

/// Returns the first valid UTF-8 character and the number of bytes up to its end; `before` if there is none.
fn next_valid(bytes: &[u8], before: char) -> (char, usize) {
    let mut size = 0;
    for (_, char, width) in runes::char_indices(bytes) {
        size += width;
        if char != runes::REPLACEMENT {
            return (char, size);
        }
    }
    (before, size)
}

fn lower_capital(char: char) -> char {
    if runes::is_upper(char) {
        runes::to_lower(char)
    } else {
        char
    }
}

/// Returns whether the character is a letter outside the three ranges of CJK ideographs that xstrings excludes.
fn is_alphabet(char: char) -> bool {
    let ideograph = matches!(char, '\u{3400}'..='\u{4D85}' | '\u{4E00}'..='\u{9FCC}' | '\u{20000}'..='\u{2B81D}');
    runes::is_letter(char) && !ideograph
}

/// Returns kind and length of the first word, and the start of the next.
fn next_word(text: &[u8]) -> (WordKind, usize, usize) {
    let (first, size) = next_valid(text, runes::REPLACEMENT);
    if text.is_empty() || first == runes::REPLACEMENT {
        return (WordKind::Invalid, size, size);
    }
    let run = |from: usize, belongs: &dyn Fn(char) -> bool| take_while(text, from, first, belongs);
    let (kind, end) = if is_connector(first) {
        (WordKind::Connector, run(size, &is_connector))
    } else if runes::is_punct(first) {
        (WordKind::Punctuation, run(size, &runes::is_punct))
    } else if runes::is_upper(first) {
        (WordKind::Upper, upper_word_len(text, size, first))
    } else if is_alphabet(first) {
        (
            WordKind::Alphabet,
            run(size, &|char| is_alphabet(char) && !runes::is_upper(char)),
        )
    } else if runes::is_number(first) {
        (WordKind::Number, run(size, &runes::is_number))
    } else {
        let is_other = |char| {
            !(is_connector(char)
                || is_alphabet(char)
                || runes::is_number(char)
                || runes::is_punct(char))
        };
        (WordKind::Other, run(size, &is_other))
    };
    (kind, end, end)
}

fn take_while(text: &[u8], from: usize, first: char, belongs: &dyn Fn(char) -> bool) -> usize {
    let mut offset = from;
    let mut before = first;
    while offset < text.len() {
        let (char, size) = next_valid(&text[offset..], before);
        before = char;
        if !belongs(char) {
            break;
        }
        offset += size;
    }
    offset
}

/// Returns the length of a word of capitals, or of one capital and its lower-case letters; the first word of
/// `HTTPServer` is `HTTP`.
fn upper_word_len(text: &[u8], first_size: usize, first: char) -> usize {
    if first_size >= text.len() {
        return first_size;
    }
    let (second, size) = next_valid(&text[first_size..], first);
    if !runes::is_upper(second) {
        if !is_alphabet(second) {
            return first_size;
        }
        return take_while(text, first_size + size, second, &|char| {
            is_alphabet(char) && !runes::is_upper(char)
        });
    }
    let mut offset = first_size + size;
    let mut last = size;
    let mut char = second;
    while offset < text.len() {
        let (next, size) = next_valid(&text[offset..], char);
        char = next;
        if !runes::is_upper(char) {
            break;
        }
        last = size;
        offset += size;
    }
    if offset < text.len() && is_alphabet(char) {
        offset - last
    } else {
        offset
    }
}
