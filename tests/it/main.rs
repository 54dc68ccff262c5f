//! Scenarios over real parts: a broker, a hub, tills.

#[cfg(test)]
mod arrival;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod lots;
#[cfg(test)]
mod starting;
