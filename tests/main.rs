//! The one test binary.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]

mod engine;
mod explained;
mod guard;
mod input;
mod lab;
mod lab_apply;
mod lab_backend;
mod lab_failover;
mod lab_faults;
mod lab_guard;
mod lab_hour;
mod lab_language;
mod lab_poolers;
mod lab_quorum;
mod lab_rejoin;
mod lab_service;
mod lab_switchover;
mod lab_two_sides;
mod lab_upgrade;
mod lab_vip;
mod lab_watch;
mod layering;
mod majorities;
mod nodes;
mod notifications;
mod observed;
mod poolers;
mod readme;
mod scenarios;
mod shipped;
mod simulation;
mod step_general;
mod step_pg;
mod transport;
mod watching;
