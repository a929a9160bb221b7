//! Bounds the requests that the gateway adds to those that came in.

/// A token bucket: every request that comes in adds a fifth of a token, every retry and every hedge
/// takes one.
#[derive(Debug)]
pub struct Budget {
    /// In fifths of a request.
    fifths: u32,
}

/// One request in five may be added.
const SHARE: u32 = 5;
/// How many requests may be added at once, in fifths.
const CAPACITY: u32 = 10 * SHARE;

impl Default for Budget {
    fn default() -> Self {
        Self { fifths: CAPACITY }
    }
}

impl Budget {
    /// A request came in.
    pub fn earn(&mut self) {
        self.fifths = (self.fifths + 1).min(CAPACITY);
    }

    /// Takes the right to add one request.
    pub fn take(&mut self) -> bool {
        match self.fifths.checked_sub(SHARE) {
            Some(rest) => {
                self.fifths = rest;
                true
            }
            None => false,
        }
    }
}
