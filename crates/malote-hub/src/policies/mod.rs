//! What follows from events: releases, notices, streams of new stores, leases that run out. Each policy reads its
//! streams from its own cursor and saves it only after everything that follows has been done, so a hub killed half
//! way does the rest again; each thing it does is harmless the second time.

pub(crate) mod distributor;
pub(crate) mod timers;
