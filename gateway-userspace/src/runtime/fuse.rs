//! A fuse that tests light to make a step of a call panic. Builds without debug assertions have none that could be lit.

#[derive(Debug, Default)]
pub(super) struct Fuse {
    #[cfg(debug_assertions)]
    is_lit: bool,
}

impl Fuse {
    #[cfg(debug_assertions)]
    pub(super) fn light(&mut self) {
        self.is_lit = true;
    }

    /// Behind what a call decided, before anything of it is carried out: the worst moment.
    pub(super) fn burn(&mut self) {
        #[cfg(debug_assertions)]
        if std::mem::take(&mut self.is_lit) {
            panic!("a test lit the fuse");
        }
    }
}
