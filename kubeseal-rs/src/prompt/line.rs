//! Edits one line of hidden input, byte by byte, as a terminal does.

use zeroize::Zeroizing;

const INTERRUPT: u8 = 0x03;
const END_OF_INPUT: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const TAB: u8 = b'\t';
const ERASE_LINE: u8 = 0x15;
const ERASE_WORD: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// The parameters of the sequences with which a terminal encloses pasted text.
const PASTE_START: &[u8] = b"200";
const PASTE_END: &[u8] = b"201";
/// The maximum length of the parameters of an escape sequence. The parameters of keys are shorter.
const MAX_PARAMETERS: usize = 16;

/// A line that is being entered. It may contain a plain value.
#[derive(Default)]
pub(super) struct Line {
    bytes: Zeroizing<Vec<u8>>,
    sequence: Sequence,
    /// Whether the terminal is pasting.
    is_pasting: bool,
    /// Whether a pasted line has ended.
    is_complete: bool,
    /// Why the line cannot be used.
    problem: Option<LineError>,
}

/// The position in an escape sequence.
#[derive(Default)]
enum Sequence {
    #[default]
    None,
    Escape,
    /// After `ESC [` or `ESC O`, with the parameters so far.
    Parameters(Vec<u8>),
}

/// How the input ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Line,
    Interrupt,
    Eof,
}

/// Why a line cannot be used. The message never quotes the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the input has several lines")]
    SeveralLines,
    #[error("the input contains a control character or a key such as an arrow")]
    Control,
    #[error("the input is not valid UTF-8")]
    Encoding,
}

impl Line {
    /// Adds a byte from the terminal. Returns how the input ends, if the byte ends it.
    pub(super) fn push(&mut self, byte: u8) -> Option<End> {
        match std::mem::take(&mut self.sequence) {
            Sequence::None => self.push_outside_sequence(byte),
            Sequence::Escape => {
                self.begin_sequence(byte);
                None
            }
            Sequence::Parameters(parameters) => self.push_in_sequence(parameters, byte),
        }
    }

    fn push_outside_sequence(&mut self, byte: u8) -> Option<End> {
        match byte {
            b'\r' | b'\n' if self.is_pasting => self.is_complete = true,
            b'\r' | b'\n' => return Some(End::Line),
            ESCAPE => self.sequence = Sequence::Escape,
            _ if self.is_complete => self.problem = Some(LineError::SeveralLines),
            TAB => self.bytes.push(byte),
            INTERRUPT if !self.is_pasting => return Some(End::Interrupt),
            END_OF_INPUT if self.bytes.is_empty() => return Some(End::Eof),
            BACKSPACE | DELETE => self.erase_character(),
            ERASE_LINE => *self = Self::default(),
            ERASE_WORD => self.erase_word(),
            0..=0x1f => self.refuse_control_character(),
            _ => self.bytes.push(byte),
        }
        None
    }

    fn begin_sequence(&mut self, byte: u8) {
        if matches!(byte, b'[' | b'O') {
            self.sequence = Sequence::Parameters(Vec::new());
        } else {
            self.refuse_control_character();
        }
    }

    fn push_in_sequence(&mut self, mut parameters: Vec<u8>, byte: u8) -> Option<End> {
        match (parameters.as_slice(), byte) {
            (PASTE_START, b'~') => self.is_pasting = true,
            (PASTE_END, b'~') => {
                self.is_pasting = false;
                return self.is_complete.then_some(End::Line);
            }
            (_, 0x40..=0x7e) => self.refuse_control_character(),
            _ if parameters.len() == MAX_PARAMETERS => self.refuse_control_character(),
            _ => {
                parameters.push(byte);
                self.sequence = Sequence::Parameters(parameters);
            }
        }
        None
    }

    fn refuse_control_character(&mut self) {
        self.problem.get_or_insert(LineError::Control);
    }

    fn erase_character(&mut self) {
        let is_continuation = |byte: &u8| byte & 0xc0 == 0x80;
        while self.bytes.pop().as_ref().is_some_and(is_continuation) {}
    }

    fn erase_word(&mut self) {
        while self.bytes.last() == Some(&b' ') {
            self.bytes.pop();
        }
        while self.bytes.last().is_some_and(|byte| *byte != b' ') {
            self.bytes.pop();
        }
    }

    /// Returns the text of the line, or why it cannot be used.
    pub(super) fn finish(mut self) -> Result<Zeroizing<String>, LineError> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let text = String::from_utf8(std::mem::take(&mut *self.bytes));
        text.map(Zeroizing::new).map_err(|_| LineError::Encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enters bytes until the input ends. Returns how the input ends, the line, and the number of bytes that were not
    /// read.
    fn enter(bytes: &[u8]) -> (Option<End>, Result<String, LineError>, usize) {
        let mut line = Line::default();
        let mut rest = bytes.iter();
        let end = rest.by_ref().find_map(|byte| line.push(*byte));
        let text = line.finish().map(|text| text.to_string());
        (end, text, rest.len())
    }

    #[test]
    fn reads_and_edits_a_line() {
        for (bytes, want) in [
            ("abc\n", "abc"),
            ("abc\r", "abc"),
            ("a\tb\n", "a\tb"),
            ("aä\u{7f}b\n", "ab"),
            ("\u{7f}\u{8}a\n", "a"),
            ("a b  \u{17}c\n", "a c"),
            ("a\u{1}\u{15}b\n", "b"),
            ("\u{1b}[200~abc\u{1b}[201~\n", "abc"),
            ("\u{1b}[200~abc\r\n\u{1b}[201~", "abc"),
            ("x\u{1b}[200~abc\u{1b}[201~y\n", "xabcy"),
        ] {
            let want = (Some(End::Line), Ok(want.to_owned()), 0);
            assert_eq!(enter(bytes.as_bytes()), want, "{bytes:?}");
        }
    }

    #[test]
    fn ends_at_an_interrupt_or_the_end_of_input() {
        for (bytes, want) in [
            ("abc\u{3}", Some(End::Interrupt)),
            ("\u{4}", Some(End::Eof)),
            ("abc\u{4}", None),
            ("abc", None),
        ] {
            assert_eq!(enter(bytes.as_bytes()).0, want, "{bytes:?}");
        }
    }

    /// Fault: a user presses a key, or pastes a character, that a hidden prompt drops silently.
    #[test]
    fn refuses_control_characters_instead_of_dropping_them() {
        for bytes in [
            "a\0b\n",
            "a\u{1b}[Ab\n",
            "a\u{1b}OAb\n",
            "a\u{1b}b\n",
            "a\u{1a}\n",
            "a\u{4}\n",
        ] {
            let (end, line, _) = enter(bytes.as_bytes());
            assert_eq!(
                (end, line),
                (Some(End::Line), Err(LineError::Control)),
                "{bytes:?}"
            );
        }
        assert_eq!(enter(b"\xff\n").1, Err(LineError::Encoding));
        let endless = [b"\x1b[".as_slice(), &[b'1'; 1000], b"\n"].concat();
        assert_eq!(enter(&endless).1, Err(LineError::Control));
    }

    /// Attack: the shell that runs next executes, shows and saves the other lines of a pasted private key.
    #[test]
    fn reads_a_paste_of_several_lines_completely_and_refuses_it() {
        let bytes = "\u{1b}[200~-----BEGIN\nMII\u{3}\n\n-----END\n\u{1b}[201~";
        let want = (Some(End::Line), Err(LineError::SeveralLines), 0);
        assert_eq!(enter(bytes.as_bytes()), want);
    }
}
