//! See the crate description.

pub mod source;
