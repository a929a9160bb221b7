//! The commands: arguments in, exit status out.

pub mod replay;
