//! The engine and the command line, driven from outside: the program runs playbooks on three hosts
//! that are one sshd of our own on three loopback addresses.

mod commands;
mod hosts;
mod interrupted;
mod plays;
mod saved;
