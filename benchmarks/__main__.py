"""`make bench` starts here."""

import sys

if __name__ == "__main__":
    # AWS SAM CLI brings it, and botocore would sign with it; the Lambda package has no such thing.
    sys.modules["awscrt"] = None  # type: ignore[assignment]
    from benchmarks.run import main

    sys.exit(main())
