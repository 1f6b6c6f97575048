//! Templates of Helm, Jinja and ERB, as far as lint has to understand them: which actions output a literal, and so may
//! contain a value.

mod expression;
mod functions;
mod literals;
mod pieces;

pub(super) use expression::strings;
pub(super) use literals::{Effect, Literals};
pub(super) use pieces::{Action, Form, Piece, Pieces, may_contain_action};
