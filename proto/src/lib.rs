//! See the crate description.

pub mod records;
