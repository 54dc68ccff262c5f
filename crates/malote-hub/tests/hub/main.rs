//! The hub over HTTP, with a real broker behind it.

#[cfg(test)]
mod lots;
#[cfg(test)]
mod starting;
#[cfg(test)]
mod support;
