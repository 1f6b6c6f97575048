//! Go's package fmt: `Sprint`, `Sprintln`, `Sprintf`.

use crate::budget::Gauge;
use crate::error::{Fault, Limit};
use crate::text::{Text, Writer};
use crate::value::Value;

mod float;
mod format;
mod integer;
mod printer;

pub(crate) use float::{format_float, shortest_digits};
use printer::Printer;

/// Maximum nesting of printed values; Go overflows its stack on a map that contains itself.
const MAX_NESTING: usize = 100;

/// Prints values, with a space between two neighbors if neither is a string.
pub(crate) fn print(out: Writer, values: &[Value], gauge: &mut Gauge) -> Result<Text, Fault> {
    let mut printer = Printer::new(out, gauge);
    let mut after_text = true;
    for (at, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if at > 0 && !is_text && !after_text {
            printer.out.byte(b' ')?;
        }
        printer.value(value, 'v', 0)?;
        after_text = is_text;
    }
    Ok(printer.out.finish())
}

/// Prints values with spaces between all of them and a line break at the end.
pub(crate) fn println(out: Writer, values: &[Value], gauge: &mut Gauge) -> Result<Text, Fault> {
    let mut printer = Printer::new(out, gauge);
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            printer.out.byte(b' ')?;
        }
        printer.value(value, 'v', 0)?;
    }
    printer.out.byte(b'\n')?;
    Ok(printer.out.finish())
}

/// `printf`: formats values by a format string.
pub(crate) fn printf(
    out: Writer,
    format: &[u8],
    values: &[Value],
    gauge: &mut Gauge,
) -> Result<Text, Fault> {
    let mut printer = Printer::new(out, gauge);
    format::print_formatted(&mut printer, format, values)?;
    Ok(printer.out.finish())
}

fn too_deep() -> Fault {
    Fault::limit(Limit::Depth)
}
