//! Writes conflict markers.

use super::Labels;
use super::lines::Piece;

/// Returns merged lines, with markers around conflicts.
#[cfg(test)]
pub(super) fn lines(pieces: &[Piece<'_>], labels: &Labels) -> Vec<u8> {
    let line_break = line_break_of(pieces);
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Merged(lines) => out.extend_from_slice(lines),
            Piece::Conflict { ours, theirs } => {
                conflict(&mut out, ours, theirs, labels, line_break);
            }
        }
    }
    out
}

/// Returns the line break of the first line that has one.
pub(super) fn line_break_of(pieces: &[Piece<'_>]) -> &'static str {
    let texts = pieces.iter().flat_map(|piece| match piece {
        Piece::Merged(lines) => [*lines, *lines],
        Piece::Conflict { ours, theirs } => [*ours, *theirs],
    });
    let mut breaks = texts.filter_map(|text| {
        let end = memchr::memchr(b'\n', text)?;
        Some(text[..end].ends_with(b"\r"))
    });
    if breaks.next() == Some(true) {
        "\r\n"
    } else {
        "\n"
    }
}

/// Adds the lines of both versions, with markers around them.
pub(super) fn conflict(
    out: &mut Vec<u8>,
    ours: &[u8],
    theirs: &[u8],
    labels: &Labels,
    line_break: &str,
) {
    end_line(out, line_break);
    marker(out, '<', Some(&labels.ours), labels, line_break);
    out.extend_from_slice(ours);
    end_line(out, line_break);
    marker(out, '=', None, labels, line_break);
    out.extend_from_slice(theirs);
    end_line(out, line_break);
    marker(out, '>', Some(&labels.theirs), labels, line_break);
}

/// Ends the last line, unless there is none.
pub(super) fn end_line(out: &mut Vec<u8>, line_break: &str) {
    if out.last().is_some_and(|byte| *byte != b'\n') {
        out.extend_from_slice(line_break.as_bytes());
    }
}

fn marker(out: &mut Vec<u8>, c: char, label: Option<&str>, labels: &Labels, line_break: &str) {
    let marker = c.to_string().repeat(labels.marker_len);
    let label = label.map(|label| format!(" {label}")).unwrap_or_default();
    out.extend_from_slice(format!("{marker}{label}{line_break}").as_bytes());
}
