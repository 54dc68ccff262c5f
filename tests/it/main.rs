//! Integration scenarios.
