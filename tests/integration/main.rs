//! Everything that is tested from outside a module, one file per concern.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod command_line;
mod config;
mod dialects;
mod documents;
mod event_stream;
mod fixture_faults;
mod fixture_library;
mod fixture_server;
mod framing;
mod gateway;
mod goldens;
mod kubernetes;
mod layering;
mod limits;
mod naive_sse;
mod native_encoder;
mod pieces;
mod raw_client;
mod recordings;
mod replay_command;
mod requests;
mod signed_requests;
mod survival;
mod web;
