//! Key Secrets, wherever they are: read, marked, archived, put back; and what needs them.
//!
//! | module | owns |
//! |---|---|
//! | [`record`] | one key Secret and what it is good for |
//! | [`store`] | the key Secrets of a cluster or folder |
//! | [`folder`] | the files of such a folder |
//! | [`archive`] | the age archive of a backup |
//! | [`survey`] | which objects and files need which key |
//! | [`history`] | files of other branches and of the past |

pub mod archive;
pub mod folder;
pub mod history;
pub mod record;
pub mod store;
pub mod survey;

pub use record::KeyRecord;
pub use store::KeyStore;
pub use survey::{Found, Holder, Origin, Survey, Unread};
