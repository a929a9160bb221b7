//! Notifications: events about the gateway that every listener gets.
//!
//! | file | does |
//! |---|---|
//! | `notification` | what can be published, and its JSON |
//! | `cursor` | how far a client has read, as an event's id |
//! | `log` | the newest notifications, bounded |
//! | `hub` | publishes to the listeners of this process |
//! | `relay` | carries announcements to the listeners of all replicas |

mod cursor;
mod hub;
mod log;
mod notification;
mod relay;

pub use hub::{Dropped, Listener, Notifications};
pub use notification::Notification;
pub use relay::Relay;
