//! Operations of ours among those that Burn's fusion puts off: each takes its turn in its stream, and is run by the
//! kernels of the backend within. The others are compositions that fusion makes few kernels of, with what is around.

use burn::backend::TensorMetadata;
use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, OperationFn, OperationIr, StreamId, TensorIr,
};
use burn::backend::fusion::{Fusion, FusionBackend, FusionRuntime, FusionTensor};
use burn::tensor::{DType, Shape};

use crate::ops::cross_entropy::{Losses, Of, Rows};
use crate::ops::plain::at_least_f32;
use crate::ops::{Head, Heads, Kernels, Optional};

type Tensor<B> = FusionTensor<<B as FusionBackend>::FusionRuntime>;

type Handles<B> =
    HandleContainer<<<B as FusionBackend>::FusionRuntime as FusionRuntime>::FusionHandle>;

/// Puts off `work`, which finds its inputs among the handles and leaves its outputs there.
fn put_off<B: FusionBackend, const I: usize, const O: usize>(
    name: &'static str,
    inputs: [Tensor<B>; I],
    outputs: [(Shape, DType); O],
    work: impl Fn(&mut Handles<B>, &[TensorIr; I], &[TensorIr; O]) + Send + Sync + 'static,
) -> [Tensor<B>; O] {
    let client = inputs[0].client.clone();
    let inputs = inputs.map(FusionTensor::into_ir);
    let outputs =
        outputs.map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype));
    let described = OperationIr::Custom(CustomOpIr {
        id: name.into(),
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        scalars: Vec::new(),
    });
    let operation = OperationFn(move |handles: &mut Handles<B>| {
        work(handles, &inputs, &outputs);
        Ok(())
    });
    let tensors = client.register(StreamId::current(), described, operation);
    let tensors = tensors.try_into().ok();
    tensors.expect("an operation has the outputs that it is described with")
}

impl<B: FusionBackend + Kernels> Kernels for Fusion<B> {
    fn attention_forward(qkv: Tensor<B>, heads: Heads) -> (Tensor<B>, Tensor<B>) {
        let [rows, columns]: [usize; 2] = qkv.shape().dims();
        let width = heads.head_width(columns);
        let dtype = qkv.dtype();
        let described = [
            (Shape::new([rows, heads.heads * width]), dtype),
            (
                Shape::new([heads.batch, heads.heads, heads.length]),
                at_least_f32(dtype),
            ),
        ];
        let [output, log_total] = put_off::<B, 1, 2>(
            "attention",
            [qkv],
            described,
            move |handles, [qkv], [output, log_total]| {
                let qkv = handles.get_float_tensor::<B>(qkv);
                let made = B::attention_forward(qkv, heads);
                handles.register_float_tensor::<B>(&output.id, made.0);
                handles.register_float_tensor::<B>(&log_total.id, made.1);
            },
        );
        (output, log_total)
    }

    fn attention_backward(
        qkv: Tensor<B>,
        output: Tensor<B>,
        log_total: Tensor<B>,
        grad: Tensor<B>,
        heads: Heads,
    ) -> Tensor<B> {
        let described = [(qkv.shape(), qkv.dtype())];
        let [of_qkv] = put_off::<B, 4, 1>(
            "attention_backward",
            [qkv, output, log_total, grad],
            described,
            move |handles, given, [of_qkv]| {
                let given = given.each_ref();
                let [qkv, output, log_total, grad] =
                    given.map(|given| handles.get_float_tensor::<B>(given));
                let made = B::attention_backward(qkv, output, log_total, grad, heads);
                handles.register_float_tensor::<B>(&of_qkv.id, made);
            },
        );
        of_qkv
    }

    fn cross_entropy_forward(rows: Rows<Self>, rule: Head) -> Losses<Self> {
        let (targets, of_sums) = (rows.targets.shape(), at_least_f32(rows.hidden.dtype()));
        let described = [
            (targets.clone(), of_sums),
            (targets.clone(), of_sums),
            (targets.clone(), rows.targets.dtype()),
            (targets, of_sums),
        ];
        let (given, weighted) = parts::<B>(rows);
        let [loss, nats, correct, log_total] = put_off::<B, 4, 4>(
            "cross_entropy",
            given,
            described,
            move |handles, given, [loss, nats, correct, log_total]| {
                let rows = rows_of::<B>(handles, given, weighted);
                let made = B::cross_entropy_forward(rows, rule);
                handles.register_float_tensor::<B>(&loss.id, made.loss);
                handles.register_float_tensor::<B>(&nats.id, made.nats);
                handles.register_int_tensor::<B>(&correct.id, made.correct);
                handles.register_float_tensor::<B>(&log_total.id, made.log_total);
            },
        );
        Losses {
            loss,
            nats,
            correct,
            log_total,
        }
    }

    fn cross_entropy_backward(
        rows: Rows<Self>,
        log_total: Tensor<B>,
        grad: Tensor<B>,
        rule: Head,
    ) -> Of<Self> {
        let described = [&rows.hidden, &rows.head].map(|of: &Tensor<B>| (of.shape(), of.dtype()));
        let ([hidden, head, targets, weights], weighted) = parts::<B>(rows);
        put_off::<B, 6, 2>(
            "cross_entropy_backward",
            [hidden, head, targets, weights, log_total, grad],
            described,
            move |handles, [hidden, head, targets, weights, log_total, grad], of| {
                let given = [hidden, head, targets, weights].map(TensorIr::clone);
                let rows = rows_of::<B>(handles, &given, weighted);
                let [log_total, grad] =
                    [log_total, grad].map(|given| handles.get_float_tensor::<B>(given));
                let made = B::cross_entropy_backward(rows, log_total, grad, rule);
                for (of, made) in of.iter().zip(made) {
                    handles.register_float_tensor::<B>(&of.id, made);
                }
            },
        )
    }
}

/// Hidden rows, head, targets and weights; where there are none of those, the hidden rows again.
fn parts<B: FusionBackend + Kernels>(rows: Rows<Fusion<B>>) -> ([Tensor<B>; 4], bool) {
    let (weights, weighted) = match rows.weights {
        Optional::Some(weights) => (weights, true),
        Optional::None => (rows.hidden.clone(), false),
    };
    ([rows.hidden, rows.head, rows.targets, weights], weighted)
}

/// The same in the backend within.
fn rows_of<B: FusionBackend + Kernels>(
    handles: &mut Handles<B>,
    [hidden, head, targets, weights]: &[TensorIr; 4],
    weighted: bool,
) -> Rows<B> {
    Rows {
        hidden: handles.get_float_tensor::<B>(hidden),
        head: handles.get_float_tensor::<B>(head),
        targets: handles.get_int_tensor::<B>(targets),
        weights: match weighted {
            true => Optional::Some(handles.get_float_tensor::<B>(weights)),
            false => Optional::None,
        },
    }
}
