//! G.711: A-law and µ-law by tables that are made when the program is.

/// µ-law code of a sample.
pub fn ulaw_of_linear(sample: i16) -> u8 {
    ULAW_CODES[usize::from(sample as u16 >> 2)]
}

/// A-law code of a sample.
pub fn alaw_of_linear(sample: i16) -> u8 {
    ALAW_CODES[usize::from(sample as u16 >> 3)]
}

pub fn linear_of_ulaw(code: u8) -> i16 {
    ULAW_SAMPLES[usize::from(code)]
}

pub fn linear_of_alaw(code: u8) -> i16 {
    ALAW_SAMPLES[usize::from(code)]
}

/// µ-law is defined on 14 bits.
static ULAW_CODES: [u8; 1 << 14] = {
    let mut codes = [0; 1 << 14];
    let mut index = 0;
    while index < codes.len() {
        codes[index] = compress_ulaw((index << 2) as u16 as i16);
        index += 1;
    }
    codes
};

/// A-law is defined on 13 bits.
static ALAW_CODES: [u8; 1 << 13] = {
    let mut codes = [0; 1 << 13];
    let mut index = 0;
    while index < codes.len() {
        codes[index] = compress_alaw((index << 3) as u16 as i16);
        index += 1;
    }
    codes
};

static ULAW_SAMPLES: [i16; 256] = {
    let mut samples = [0; 256];
    let mut code = 0;
    while code < 256 {
        samples[code] = expand_ulaw(code as u8);
        code += 1;
    }
    samples
};

static ALAW_SAMPLES: [i16; 256] = {
    let mut samples = [0; 256];
    let mut code = 0;
    while code < 256 {
        samples[code] = expand_alaw(code as u8);
        code += 1;
    }
    samples
};

/// The virtual decision value that shifts all segments to powers of two, in 16-bit units.
const ULAW_BIAS: i32 = 33 << 2;

/// G.711 table 2: eight segments of sixteen, all bits inverted on the line.
const fn compress_ulaw(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0x80, !(sample as i32)) } else { (0, sample as i32) };
    let clipped = if magnitude > 32_635 { 32_635 } else { magnitude };
    let biased = clipped + ULAW_BIAS;
    let segment = 31 - (biased as u32).leading_zeros() as i32 - 7;
    let step = (biased >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) as u8 | step as u8)
}

const fn expand_ulaw(code: u8) -> i16 {
    let bits = !code;
    let segment = (bits >> 4 & 7) as i32;
    let magnitude = (((((bits & 0x0f) as i32) << 3) + ULAW_BIAS) << segment) - ULAW_BIAS;
    if bits & 0x80 != 0 { -magnitude as i16 } else { magnitude as i16 }
}

/// G.711 table 1: even bits inverted on the line.
const fn compress_alaw(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0, !(sample as i32)) } else { (0x80, sample as i32) };
    let code = if magnitude < 256 {
        magnitude >> 4
    } else {
        let segment = 31 - (magnitude as u32).leading_zeros() as i32 - 7;
        (segment << 4) | ((magnitude >> (segment + 3)) & 0x0f)
    };
    (code as u8 | sign) ^ 0x55
}

const fn expand_alaw(code: u8) -> i16 {
    let bits = code ^ 0x55;
    let segment = (bits >> 4 & 7) as i32;
    let step = ((bits & 0x0f) as i32) << 4;
    let magnitude = if segment == 0 { step + 8 } else { (step + 0x108) << (segment - 1) };
    if bits & 0x80 != 0 { magnitude as i16 } else { -magnitude as i16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decoder output values of G.711 tables 1a and 2a in 16-bit units, by code word on the line.
    #[test]
    fn code_words_have_the_values_of_the_recommendation() {
        let alaw = [(0xd5, 8), (0x55, -8), (0xd4, 24), (0xaa, 32_256), (0x2a, -32_256), (0x80, 5_504)];
        for (code, value) in alaw {
            assert_eq!(linear_of_alaw(code), value, "A-law {code:#04x}");
        }
        let ulaw = [(0xff, 0), (0x7f, 0), (0xfe, 8), (0x80, 32_124), (0x00, -32_124), (0x8f, 16_764)];
        for (code, value) in ulaw {
            assert_eq!(linear_of_ulaw(code), value, "µ-law {code:#04x}");
        }
    }

    #[test]
    fn each_code_word_survives_decoding_and_coding() {
        for code in 0..=255 {
            assert_eq!(alaw_of_linear(linear_of_alaw(code)), code);
            // µ-law has two zeros, and the positive one is sent.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(ulaw_of_linear(linear_of_ulaw(code)), expected);
        }
    }

    #[test]
    fn each_sample_comes_back_within_half_a_step() {
        for sample in i16::MIN..=i16::MAX {
            let magnitude = i32::from(sample).abs();
            let near = |value: i16, step: i32| (i32::from(value) - i32::from(sample)).abs() <= step;
            let clipped = magnitude > 32_124;
            assert!(
                near(linear_of_ulaw(ulaw_of_linear(sample)), 6 + magnitude / 16 + 660 * i32::from(clipped)),
                "{sample}"
            );
            assert!(near(linear_of_alaw(alaw_of_linear(sample)), 10 + magnitude / 16), "{sample}");
        }
    }
}
