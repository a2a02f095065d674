//! The part of the ONNX file format that a network needs: protocol buffers of onnx.proto, field by field
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>).

/// ONNX's number for f32.
const FLOAT: u64 = 1;

/// ONNX's number for whole numbers of 64 bits.
const INT64: u64 = 7;

/// A message in the making.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A field that holds a number.
    pub fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// A field that holds a number with a fraction.
    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A field that holds text, bytes or another message.
    pub fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A field for each of many.
    pub fn each(self, field: u64, values: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        values.into_iter().fold(self, |message, value| message.bytes(field, value))
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What an operation is told beside its inputs.
pub enum Attribute {
    /// A number.
    Int(&'static str, u64),
    /// Numbers.
    Ints(&'static str, Vec<u64>),
    /// A number with a fraction.
    Float(&'static str, f32),
}

impl Attribute {
    fn message(&self) -> Message {
        match self {
            Attribute::Float(name, value) => Message::default().bytes(1, name).float(2, *value).int(20, 1),
            Attribute::Int(name, value) => Message::default().bytes(1, name).int(3, *value).int(20, 2),
            Attribute::Ints(name, values) => {
                values.iter().fold(Message::default().bytes(1, name), |message, value| message.int(8, *value)).int(20, 7)
            }
        }
    }
}

/// `NodeProto`: an operation whose output has its name.
pub fn node(operation: &str, name: &str, inputs: &[&str], attributes: &[Attribute]) -> Message {
    let message = Message::default().each(1, inputs).bytes(2, name).bytes(3, name).bytes(4, operation);
    message.each(5, attributes.iter().map(Attribute::message))
}

/// `TensorProto`: values in f32.
pub fn tensor(name: &str, dims: &[usize], values: &[f32]) -> Message {
    let message = dims.iter().fold(Message::default(), |message, dim| message.int(1, *dim as u64));
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    message.int(2, FLOAT).bytes(8, name).bytes(9, raw)
}

/// `TensorProto`: one whole number, as a list of one.
pub fn integer(name: &str, value: i64) -> Message {
    Message::default().int(1, 1).int(2, INT64).bytes(8, name).bytes(9, value.to_le_bytes())
}

/// `ValueInfoProto`: an input or output with as many rows as are given.
pub fn value(name: &str, dims: &[usize]) -> Message {
    let rows = Message::default().bytes(2, "N");
    let dims = dims.iter().map(|dim| Message::default().int(1, *dim as u64));
    let shape = Message::default().each(1, std::iter::once(rows).chain(dims));
    let tensor = Message::default().int(1, FLOAT).bytes(2, shape);
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, tensor))
}

/// `ModelProto` of a graph, with entries that say what it is.
pub fn model(graph: &Message, opset: u64, entries: &[(&str, String)]) -> Message {
    let entry = |(key, value): &(&str, String)| Message::default().bytes(1, key).bytes(2, value);
    let opset = Message::default().bytes(1, "").int(2, opset);
    let message = Message::default().int(1, IR_VERSION).bytes(2, "la-cli").bytes(3, env!("CARGO_PKG_VERSION"));
    message.bytes(7, graph).bytes(8, opset).each(14, entries.iter().map(entry))
}

/// Version of the file format.
const IR_VERSION: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_protocol_buffers_are() {
        let inner = Message::default().int(1, 300);
        let message = Message::default().int(1, 5).float(2, 1.0).bytes(3, "ab").bytes(16, inner);
        assert_eq!(message.as_ref(), [8, 5, 0x15, 0, 0, 0x80, 0x3f, 0x1a, 2, b'a', b'b', 0x82, 1, 3, 8, 0xac, 2]);
    }
}
