//! Everything that is tested from outside a module, by concern.

mod fixture_faults;
mod fixture_library;
mod fixture_server;
mod raw_client;
mod replay_command;
