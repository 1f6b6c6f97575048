//! Tests the content of volumes.
