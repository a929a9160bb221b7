//! What is known of a text that was emitted and is not kept: enough to tell whether another text
//! begins with it.

/// A polynomial hash and a length. The hash of a whole text is the same however it was cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest {
    length: usize,
    hash: u64,
}

/// Odd, with bits in every place (the fraction of the golden ratio).
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

/// The first powers of [`BASE`].
const POWERS: [u64; 4] = {
    let square = BASE.wrapping_mul(BASE);
    [
        BASE,
        square,
        square.wrapping_mul(BASE),
        square.wrapping_mul(square),
    ]
};

impl Digest {
    pub(super) fn push(&mut self, text: &str) {
        self.length += text.len();
        let term = |byte: u8, power: u64| (u64::from(byte) + 1).wrapping_mul(power);
        // Four bytes a step: every token of an answer comes through here.
        let (words, rest) = text.as_bytes().as_chunks::<4>();
        for &[a, b, c, d] in words {
            self.hash = self
                .hash
                .wrapping_mul(POWERS[3])
                .wrapping_add(term(a, POWERS[2]))
                .wrapping_add(term(b, POWERS[1]))
                .wrapping_add(term(c, POWERS[0]))
                .wrapping_add(u64::from(d) + 1);
        }
        for &byte in rest {
            self.hash = self
                .hash
                .wrapping_mul(BASE)
                .wrapping_add(u64::from(byte) + 1);
        }
    }

    /// Adds a text of which only the digest is known.
    pub(super) fn append(&mut self, other: Self) {
        let (mut power, mut base, mut exponent) = (1_u64, BASE, other.length);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = power.wrapping_mul(base);
            }
            base = base.wrapping_mul(base);
            exponent >>= 1;
        }
        self.hash = self.hash.wrapping_mul(power).wrapping_add(other.hash);
        self.length += other.length;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What follows the emitted text in `whole`; `None` where `whole` does not begin with it.
    pub(super) fn rest_of<'a>(&self, whole: &'a str) -> Option<&'a str> {
        let (head, rest) = whole.split_at_checked(self.length)?;
        let mut digest = Self::default();
        digest.push(head);
        (digest == *self).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn the_digest_of_a_text_is_the_same_for_every_cut() {
        let text = "every cut of this text";
        let mut whole = Digest::default();
        whole.push(text);
        for cut in 0..=text.len() {
            let mut pieces = Digest::default();
            pieces.push(&text[..cut]);
            pieces.push(&text[cut..]);
            assert_eq!(pieces, whole, "{cut}");
        }
        let mut other = Digest::default();
        other.push("every cut of that text");
        assert_ne!(other, whole);
    }

    #[test]
    fn the_rest_of_a_text_is_what_was_not_emitted() {
        let mut digest = Digest::default();
        assert!(digest.is_empty());
        assert_eq!(digest.rest_of("Hé"), Some("Hé"));
        digest.push("H");
        let mut accent = Digest::default();
        accent.push("é");
        digest.append(accent);
        for (whole, rest) in [
            ("Hé", Some("")),
            ("Hé you", Some(" you")),
            ("He you", None),
            ("H", None),
            ("", None),
        ] {
            assert_eq!(digest.rest_of(whole), rest, "{whole}");
        }
    }
}
