//! The buffer of a thread that sockets are read into. Its content is consumed before another
//! stream's turn, so that a waiting stream holds no buffer.

use std::cell::Cell;

/// The most bytes of one read.
const BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the thread's buffer to `read`. A nested call gets another buffer.
pub(super) fn with<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER
        .take()
        .unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
    let result = read(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
