//! Key Secrets, wherever they are: read, marked, archived, put back; and what needs them.
//!
//! | module | owns |
//! |---|---|
//! | [`record`] | one key Secret and what it is good for |
//! | [`store`] | the key Secrets of a cluster or folder |
//! | [`folder`] | the files of such a folder |
//! | [`archive`], [`age_header`] | the age archive of a backup, and how long its header may be |
//! | [`restored`] | what a key Secret of a backup becomes |
//! | [`signature`], [`signers`] | who made a backup |
//! | [`survey`] | which objects and files need which key |
//! | [`history`] | files of other branches and of the past |

pub mod age_header;
pub mod archive;
pub mod folder;
pub mod history;
pub mod marked;
pub mod record;
pub mod restored;
pub mod signature;
pub mod signers;
pub mod store;
pub mod survey;

pub use record::KeyRecord;
pub use store::KeyStore;
pub use survey::{Found, Holder, Origin, Survey, Unread};
