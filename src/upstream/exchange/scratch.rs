//! The one buffer of a thread that sockets are read into. What is read is taken out before another
//! stream's turn, so that a stream that waits holds none.

use std::cell::Cell;

/// How much one read brings at most, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the thread's buffer to `read`. Whoever asks within gets another.
pub(super) fn with<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER
        .take()
        .unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
    let result = read(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
