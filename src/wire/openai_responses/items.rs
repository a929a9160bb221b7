//! The output items of an answer, and what was emitted of each: every text comes up to four times, in
//! deltas, as a text, as a part and with its item, and once more with the whole response.

use std::collections::HashMap;

use super::shape::{ItemRef, Kind};
use crate::wire::digest::Digest;

/// The items in order of appearance.
#[derive(Debug, Default)]
pub(super) struct Items {
    items: Vec<ItemState>,
    by_id: HashMap<String, usize>,
    by_index: HashMap<u64, usize>,
    /// The last item that came without an index.
    without_index: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct ItemState {
    /// The item itself came, not only pieces of it.
    pub(super) announced: bool,
    /// Its place among the client's calls, where it is one.
    pub(super) call: Option<usize>,
    /// The arguments that the item was announced with, in force if no others come.
    pub(super) initial: String,
    /// Arguments that came before the item.
    pub(super) pending: String,
    /// How many of its annotations were emitted.
    pub(super) annotations: usize,
    texts: [ItemText; 4],
}

/// The text of one kind in one item.
#[derive(Debug, Default, Clone, Copy)]
struct ItemText {
    /// All parts before the last one.
    before: Digest,
    part: Digest,
    /// The last part is whole; it was closed under this number.
    closed: Option<u64>,
}

impl Items {
    pub(super) fn get(&mut self, item: usize) -> &mut ItemState {
        &mut self.items[item]
    }

    /// The item that a frame is about. Its id decides if it was seen before, then its index; one that
    /// is unknown begins.
    pub(super) fn resolve(&mut self, at: ItemRef<'_>) -> usize {
        let known = match (self.by_id.get(at.id), at.index) {
            (Some(&item), _) if !at.id.is_empty() => Some(item),
            (_, Some(index)) => match self.by_index.get(&index) {
                Some(&item) => Some(item),
                None if at.id.is_empty() => self.without_index,
                None => None,
            },
            _ if at.id.is_empty() => self.items.len().checked_sub(1),
            _ => None,
        };
        known.unwrap_or_else(|| self.begin(at))
    }

    /// An item is announced. It is a new one, unless pieces of it came before.
    pub(super) fn announce(&mut self, at: ItemRef<'_>) -> usize {
        let item = match self.by_id.get(at.id) {
            Some(&item) if !at.id.is_empty() => item,
            _ => match at.index.and_then(|index| self.by_index.get(&index)) {
                Some(&item) if !self.items[item].announced => {
                    self.by_id.insert(at.id.to_owned(), item);
                    item
                }
                _ => self.begin(at),
            },
        };
        self.items[item].announced = true;
        item
    }

    /// Some servers name a call by its item's id first and by its own id later.
    pub(super) fn set_call_id(&mut self, item: usize, call_id: &str) {
        if !call_id.is_empty() {
            self.by_id.entry(call_id.to_owned()).or_insert(item);
        }
    }

    fn begin(&mut self, at: ItemRef<'_>) -> usize {
        let item = self.items.len();
        self.items.push(ItemState::default());
        if !at.id.is_empty() {
            self.by_id.insert(at.id.to_owned(), item);
        }
        match at.index {
            Some(index) => {
                self.by_index.insert(index, item);
            }
            None => self.without_index = Some(item),
        }
        item
    }

    /// What is missing of the answer's whole text of that kind; `None` where it does not begin with
    /// what was emitted.
    pub(super) fn missing<'a>(&self, kind: Kind, whole: &'a str) -> Option<&'a str> {
        let mut emitted = Digest::default();
        for item in &self.items {
            emitted.append(item.texts[kind as usize].whole());
        }
        emitted.rest_of(whole)
    }

    /// The calls of the client whose arguments never came, with what they were announced with.
    pub(super) fn calls(&mut self) -> impl Iterator<Item = (usize, String)> {
        let items = self.items.iter_mut();
        items.filter_map(|item| Some((item.call?, std::mem::take(&mut item.initial))))
    }

    /// Whether arguments of a call came whose item never did.
    pub(super) fn has_orphans(&self) -> bool {
        let mut items = self.items.iter();
        items.any(|item| !item.announced && !item.pending.is_empty())
    }
}

impl ItemState {
    /// A piece of a text was emitted.
    pub(super) fn add(&mut self, kind: Kind, piece: &str) {
        self.texts[kind as usize].open().push(piece);
    }

    /// The next text of that kind is of a new part.
    pub(super) fn begin_part(&mut self, kind: Kind) {
        let text = &mut self.texts[kind as usize];
        if !text.part.is_empty() {
            text.closed.get_or_insert(u64::MAX);
        }
    }

    /// What is missing of a whole part. `repeats` is whether the frame repeats a part that may have
    /// come whole before.
    pub(super) fn close_part<'a>(
        &mut self,
        kind: Kind,
        number: u64,
        repeats: bool,
        whole: &'a str,
    ) -> &'a str {
        let text = &mut self.texts[kind as usize];
        let again = repeats || text.closed == Some(number);
        if text.closed.is_some() && again && text.part.rest_of(whole) == Some("") {
            return "";
        }
        let rest = text.open().rest_of(whole).unwrap_or_default();
        text.part.push(rest);
        text.closed = Some(number);
        rest
    }

    /// What is missing of all the parts of the item.
    pub(super) fn close<'a>(&mut self, kind: Kind, whole: &'a str) -> &'a str {
        let text = &mut self.texts[kind as usize];
        let rest = text.whole().rest_of(whole).unwrap_or_default();
        text.part.push(rest);
        text.closed = Some(u64::MAX);
        rest
    }
}

impl ItemText {
    /// The digest of the part that the next text belongs to.
    fn open(&mut self) -> &mut Digest {
        if self.closed.take().is_some() {
            self.before.append(self.part);
            self.part = Digest::default();
        }
        &mut self.part
    }

    fn whole(&self) -> Digest {
        let mut whole = self.before;
        whole.append(self.part);
        whole
    }
}
