//! Text formats as Go's standard library reads and writes them.
//!
//! Manifests, key files, flags and templates were written for a program in Go. Crates for these formats are
//! stricter or more lenient, and report other error positions.
//!
//! | module | Go's package |
//! |---|---|
//! | [`base64`] | `encoding/base64`, the standard encoding |
//! | [`duration`] | `time.ParseDuration` and `Duration.String` |
//! | [`pem`] | `encoding/pem` |

pub mod base64;
pub mod duration;
pub mod pem;
