//! The words of a command, one after another in one piece of memory.

/// Words to be sent.
#[derive(Debug, Default, Clone)]
pub(crate) struct Words {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    pub(crate) fn push(&mut self, word: impl AsRef<[u8]>) {
        self.data.extend_from_slice(word.as_ref());
        self.ends.push(self.data.len());
    }

    pub(crate) fn int(&mut self, number: impl Into<i128>) {
        use std::io::Write;
        let number: i128 = number.into();
        // Memory takes everything.
        let _written = write!(self.data, "{number}");
        self.ends.push(self.data.len());
    }

    pub(crate) fn size(&mut self, number: usize) {
        self.int(number as u64);
    }

    /// Adds a command with the number of its words in front.
    pub(crate) fn command(&mut self, words: &[&[u8]]) {
        self.size(words.len());
        for word in words {
            self.push(word);
        }
    }

    pub(crate) fn append(&mut self, other: &Self) {
        let shift = self.data.len();
        self.data.extend_from_slice(&other.data);
        self.ends.extend(other.ends.iter().map(|end| end + shift));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let word = &self.data[from..*end];
            from = *end;
            word
        })
    }
}
