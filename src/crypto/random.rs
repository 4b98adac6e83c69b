//! Where does randomness come from? From the operating system, at every call: a buffer of it in this process would be
//! duplicated by a snapshot or a clone of the machine, and a repeated key and nonce is fatal (ENV-15).

use ring::rand::{SecureRandom, SystemRandom};

use super::CryptoError;

/// Random bytes from the operating system, one call.
pub fn random(out: &mut [u8]) -> Result<(), CryptoError> {
    Ok(system().fill(out)?)
}

#[expect(clippy::disallowed_methods, reason = "this is the door for randomness")]
fn system() -> SystemRandom {
    SystemRandom::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let mut draws = [[0_u8; 32]; 2];
        draws.iter_mut().for_each(|draw| random(draw).unwrap());
        assert_ne!(draws[0], draws[1]);
        assert_ne!(draws[0], [0; 32]);
    }
}
