//! Chooses, of the items of a scan, the selected one of each name.

use super::item::{Item, decode};
use crate::name::Name;
use crate::row::{Entry, SealedRow};
use crate::store::StoreError;
use crate::version::Select;

/// Takes the items of a scan one by one.
///
/// A scan gives the items of one name one after the other (they share a partition), so a name is done when another
/// one begins. DynamoDB does not promise that; should a name come back, its later choice is handed on too, and the
/// vault keeps the better of the two.
pub(super) struct Picker<'a> {
    select: &'a Select,
    current: Option<(Name, Option<(Entry, Item)>)>,
}

impl<'a> Picker<'a> {
    pub(super) fn new(select: &'a Select) -> Self {
        Self { select, current: None }
    }

    /// Takes the next item; gives the row of the name before it, if the item begins another one.
    pub(super) fn offer(&mut self, entry: Entry, item: Item) -> Option<Result<SealedRow, StoreError>> {
        let done = match &self.current {
            Some((name, _)) if *name != entry.name => self.finish(),
            _ => None,
        };
        let (_, best) = self.current.get_or_insert_with(|| (entry.name.clone(), None));
        if self.select.prefers(&entry.version, best.as_ref().map(|(best, _)| &best.version)) {
            *best = Some((entry, item));
        }
        done
    }

    /// The row of the last name.
    pub(super) fn finish(&mut self) -> Option<Result<SealedRow, StoreError>> {
        let (name, best) = self.current.take()?;
        Some(match best {
            Some((entry, item)) => decode(entry, item),
            None => Err(StoreError::not_found(&name, self.select)),
        })
    }
}
