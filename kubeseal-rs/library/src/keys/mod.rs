//! Key Secrets, in a cluster or a directory: reading, marking, backing up and restoring them, and finding the values
//! that need them.
//!
//! | module | owns |
//! |---|---|
//! | [`record`] | one key Secret and its state |
//! | [`store`] | the key Secrets in a cluster or directory |
//! | [`directory`] | the files of such a directory |
//! | [`archive`], [`age_header`], `age_hybrid` | the age archive of a backup, limits for its header, and post-quantum recipients |
//! | [`restored`] | the Secret that is stored for a key in a backup |
//! | [`signature`], [`signers`] | who created a backup |
//! | [`compromised`] | keys that this machine marked as compromised |
//! | [`v2`], [`key_lines`] | keys that are only for v2, in Secrets and in lines |
//! | [`survey`] | which objects and files need which key |
//! | [`named`] | rules that name a key as a recipient |
//! | [`history`] | files of other branches and earlier commits |
//! | [`missing`] | branches, commits and submodules that a clone lacks |

pub mod age_header;
mod age_hybrid;
pub mod archive;
pub mod compromised;
pub mod directory;
pub mod history;
pub mod key_lines;
pub mod missing;
pub mod named;
pub mod record;
pub mod restored;
pub mod signature;
pub mod signers;
pub mod store;
pub mod survey;
pub mod v2;

pub use record::KeyRecord;
pub use store::KeyStore;
pub use survey::{Holder, Inventory, Origin, Survey, Unreadable};
pub use v2::V2KeyRecord;
