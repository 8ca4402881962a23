//! Weight files: named tensors in memory-mapped `.safetensors` files, and the writing of one.
//!
//! Nothing here knows what a tensor means. A file is trusted with nothing: its header is checked when it is
//! opened, so that reading a tensor afterwards cannot fail.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, io};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::View;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::files;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision: its range, with 8 significant bits.
    BF16,
}

impl WeightType {
    /// Every type that weights can be stored in.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::BF16];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        }
    }

    /// PyTorch's name, which `config.json` uses.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
        }
    }

    fn of(dtype: Dtype) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.dtype() == dtype)
    }

    /// Numbers as little-endian elements of this type, rounded to the nearest.
    pub(crate) fn encode(self, values: &[f32]) -> Vec<u8> {
        let values = values.iter();
        match self {
            Self::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
            Self::BF16 => values
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
        }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WeightType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("weights are {}", names()))
    }
}

fn names() -> String {
    WeightType::ALL.map(WeightType::name).join(", ")
}

/// Tensors by name, in one or several mapped files.
#[derive(Debug)]
pub(crate) struct Weights {
    files: Vec<(PathBuf, Mmap)>,
    tensors: BTreeMap<String, Stored>,
}

/// Where a tensor lies.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    file: usize,
    /// Within the file.
    range: Range<usize>,
    pub(crate) shape: Vec<usize>,
    dtype: Dtype,
}

impl Weights {
    /// Maps the files and reads their headers. Tensors of any type are listed: which matter is the caller's
    /// affair.
    ///
    /// The files must keep their bytes and their length while they are open.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, ModelError> {
        let mut files = Vec::with_capacity(paths.len());
        let mut tensors = BTreeMap::new();
        for (file, path) in paths.iter().enumerate() {
            let map = map(path)?;
            let damaged = |error| {
                let message = format!("not a complete .safetensors file ({error}); fetch it again");
                ModelError::malformed(path, message)
            };
            let (header, metadata) = SafeTensors::read_metadata(&map).map_err(damaged)?;
            // A header starts after the eight bytes of its length.
            let data = 8 + header;
            for (name, info) in metadata.tensors() {
                // A name stands in messages, which are one line.
                if name.contains(char::is_control) {
                    let message = format!("the name {name:?} of a tensor has control characters");
                    return Err(ModelError::malformed(path, message));
                }
                let stored = Stored {
                    file,
                    range: data + info.data_offsets.0..data + info.data_offsets.1,
                    shape: info.shape.clone(),
                    dtype: info.dtype,
                };
                if tensors.insert(name.clone(), stored).is_some() {
                    let message = format!("the tensor {name} is in another file too");
                    return Err(ModelError::malformed(path, message));
                }
            }
            files.push((path.clone(), map));
        }
        Ok(Self { files, tensors })
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The one file, or the folder of several.
    pub(crate) fn place(&self) -> &Path {
        match self.files.as_slice() {
            [(file, _)] => file,
            files => files
                .first()
                .and_then(|(path, _)| path.parent())
                .unwrap_or(Path::new("")),
        }
    }

    /// Size of all files, in bytes.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.files.iter().map(|(_, map)| map.len() as u64).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.tensors
            .iter()
            .map(|(name, stored)| (name.as_str(), stored))
    }

    pub(crate) fn len(&self) -> usize {
        self.tensors.len()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// The file that a tensor is in.
    pub(crate) fn path(&self, stored: &Stored) -> &Path {
        &self.files[stored.file].0
    }

    /// How a tensor's elements are stored.
    ///
    /// # Errors
    /// When they are not of a type that weights can have.
    pub(crate) fn weight_type(
        &self,
        name: &str,
        stored: &Stored,
    ) -> Result<WeightType, ModelError> {
        WeightType::of(stored.dtype).ok_or_else(|| ModelError::TensorType {
            path: self.path(stored).to_path_buf(),
            name: name.to_owned(),
            dtype: stored.dtype.to_string().to_lowercase(),
            expected: names(),
        })
    }

    /// A tensor's elements as they are stored: little-endian, the last dimension running fastest.
    pub(crate) fn bytes(&self, stored: &Stored) -> &[u8] {
        &self.files[stored.file].1[stored.range.clone()]
    }

    /// Whether two tensors hold the same bytes in the same shape.
    pub(crate) fn same(&self, a: &Stored, b: &Stored) -> bool {
        let same = a.shape == b.shape && a.dtype == b.dtype && self.bytes(a) == self.bytes(b);
        for stored in [a, b] {
            self.release(stored, 0..stored.range.len());
        }
        same
    }

    /// Says that these bytes of a tensor have been read and are not soon needed again: the memory they take
    /// can go to what was made of them. They are read from the file again when they are.
    pub(crate) fn release(&self, stored: &Stored, bytes: Range<usize>) {
        #[cfg(unix)]
        {
            let map = &self.files[stored.file].1;
            let start = stored.range.start + bytes.start;
            // SAFETY: the map is read-only and backed by a file, so that the advice loses nothing: a page is
            // read again, with the same bytes, when it is next touched.
            let advice = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, bytes.len())
            };
            // Advice: without it, only more memory is in use.
            let _ = advice;
        }
        #[cfg(not(unix))]
        let _ = (stored, bytes);
    }
}

fn map(path: &Path) -> Result<Mmap, ModelError> {
    let file = files::open(path)?;
    // SAFETY: the bytes of the map must not change, and the file must not become shorter, for as long as the
    // map lives. No program can enforce that on a file; it is asked of the user, in the documentation of
    // what maps one. All bytes are valid as weights, and offsets are checked against the file's length when
    // it is opened: a changed file gives other weights. A shortened one raises SIGBUS (an exception on
    // Windows, where a mapped file cannot be shortened), which ends the process.
    unsafe { Mmap::map(&file) }.map_err(ModelError::read(path))
}

/// A tensor to be written, whose elements are made when their turn comes: only one tensor of a file is in
/// memory at a time.
pub(crate) struct Pending<'a> {
    pub(crate) kind: WeightType,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Box<dyn Fn() -> Vec<u8> + 'a>,
}

impl View for Pending<'_> {
    fn dtype(&self) -> Dtype {
        self.kind.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (self.bytes)().into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.kind.bytes()
    }
}

/// Writes a `.safetensors` file, in the order and with the header that PyTorch's `save_file` gives it.
pub(crate) fn write(
    path: &Path,
    tensors: Vec<(String, Pending<'_>)>,
    format: Option<&str>,
) -> Result<(), ModelError> {
    let metadata = format.map(|format| HashMap::from([("format".to_owned(), format.to_owned())]));
    // A file made in the usual way, for its permissions: the library's is its owner's alone.
    let permissions = File::create(path).and_then(|file| file.metadata());
    let permissions = permissions.map_err(ModelError::write(path))?.permissions();
    safetensors::serialize_to_file(tensors, metadata, path)
        .map_err(|error| io::Error::other(error.to_string()))
        .and_then(|()| fs::set_permissions(path, permissions))
        .map_err(ModelError::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        // 1 + 2⁻¹¹ lies halfway between two neighbours in f16, 1 + 2⁻⁸ in bf16: ties go to the even one.
        let values = [-2.5, 1.0 + 2f32.powi(-11), 1.0 + 2f32.powi(-8)];
        let bytes = WeightType::F32.encode(&values);
        assert_eq!(bytes, values.map(f32::to_le_bytes).concat());
        let bits = |kind: WeightType| -> Vec<u16> {
            let bytes = kind.encode(&values);
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| u16::from_le_bytes(*b))
                .collect()
        };
        assert_eq!(bits(WeightType::F16), [0xc100, 0x3c00, 0x3c04]);
        assert_eq!(bits(WeightType::BF16), [0xc020, 0x3f80, 0x3f80]);
    }

    #[test]
    fn every_type_reads_back_from_its_name() {
        for kind in WeightType::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert_eq!(
            "f64".parse::<WeightType>(),
            Err("weights are f32, f16, bf16".into())
        );
    }
}
