//! The SSH client against servers of every kind, none of which is a machine: tests/derive/hostile.py starts them.

mod commands;
mod process;
mod refused;
mod server;
