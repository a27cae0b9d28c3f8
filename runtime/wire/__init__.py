"""The messages as protocol buffers over gRPC. `dsd_pb2*` are generated from `dsd.proto`; regenerate them with

    pip install grpcio-tools==1.76.0 mypy-protobuf
    python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. --mypy_out=. runtime/wire/dsd.proto
"""
