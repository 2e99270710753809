//! AES-256-GCM, as the keyring uses it.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use cnc_domain::ledger::Fault;

/// How many bytes of a sealed text are its nonce.
pub const NONCE: usize = NONCE_LEN;

/// A text does not open under a key: it, or what it is bound to, is another.
#[derive(Debug)]
pub struct DoesNotOpen;

/// A key that seals and opens.
pub struct Key(LessSafeKey);

impl Key {
    pub fn new(secret: &[u8]) -> Result<Self, Fault> {
        let key = UnboundKey::new(&AES_256_GCM, secret).map_err(|_| Fault::broken("make a key", "not 32 bytes"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The nonce, then ciphertext and tag. Nonces are random: a subject has far fewer than 2^32 values under one key.
    pub fn seal(&self, clear: &[u8], bound: &[u8]) -> Result<Vec<u8>, Fault> {
        let nonce = random::<NONCE>()?;
        let mut text = clear.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text)
            .map_err(|_| Fault::broken("seal", "the text is too long"))?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut text);
        Ok(sealed)
    }

    pub fn open(&self, sealed: &[u8], bound: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        let (nonce, text) = sealed.split_at_checked(NONCE).ok_or(DoesNotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| DoesNotOpen)?;
        let mut text = text.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(bound), &mut text).map_err(|_| DoesNotOpen)?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// Random bytes.
pub fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Fault> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).map_err(|_| Fault::passing("make random bytes", "the system gave none"))?;
    Ok(bytes)
}
