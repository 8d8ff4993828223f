"""Door of the GPU check."""

from benchmarks.gpu.command import main

if __name__ == "__main__":
    raise SystemExit(main())
