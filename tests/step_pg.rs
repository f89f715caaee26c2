//! The PostgreSQL task kinds: by captured facts, and for real where PostgreSQL 15 and root are.

mod back;
mod cluster;
mod configured;
mod guarded;
mod harness;
mod judged;
mod moved;
mod real;
mod rendered;
mod servers;
