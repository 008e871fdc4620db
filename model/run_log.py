"""``python -m model.run_log`` of 0.1, which is ``python -m model.training.run_log`` now."""

from model.training.run_log import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
