//! The store: one record, changed by compare-and-swap.

use evenkeel_core::failover::{Record, Revision};

/// The store of a world.
#[derive(Debug)]
pub(super) struct Store {
    /// What it holds.
    pub(super) record: Record,
    /// The revision of that.
    pub(super) revision: Revision,
    /// It answers nobody.
    pub(super) lost: bool,
    /// Without the rule every write is taken, whatever it expected.
    pub(super) careless: bool,
}

impl Store {
    /// An empty one.
    pub(super) const fn new(careless: bool) -> Self {
        Self { record: Record::new(), revision: Revision(0), lost: false, careless }
    }

    /// Takes the record if the revision is the expected one; says which one there is now.
    pub(super) fn swap(&mut self, record: Record, expects: Revision) -> Result<Revision, Revision> {
        if expects != self.revision && !self.careless {
            return Err(self.revision);
        }
        self.record = record;
        self.revision = Revision(self.revision.0 + 1);
        Ok(self.revision)
    }
}
