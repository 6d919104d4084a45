"""Packaging of txmicro; the tools' own settings stand in ``pyproject.toml``."""

from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

DEPENDENCIES = [
    "twisted>=24.7",
    "txamqp==0.8.2",  # we override its internals, so exactly this one
    "pamqp>=4.0,<5",
    "msgpack>=1.0",
    "pymongo>=4.9",
    "prometheus-client>=0.20",
    "klein>=24.8",
    "click>=8.1.8",
    "rich>=13",
]
TLS = ["twisted[tls]", "cryptography>=42"]
OTEL = ["opentelemetry-api>=1.30", "opentelemetry-sdk>=1.30", "opentelemetry-exporter-otlp-proto-http>=1.30"]
# Its releases are numbered by Grafana's; the epoch is the day on which this one was made for Grafana 11.6.
GRAFANA = "grafana-foundation-sdk==1769699379!11.6.0"
TEST = [
    *TLS,
    *OTEL,
    "build",
    "coverage",
    GRAFANA,
    "hypothesis",
    "import-linter",
    "openapi-spec-validator",
    "pika",
    "playwright",
    "pyyaml",
    "schemathesis",
    "treq",
]
LINT = ["mypy", "ruff", "types-setuptools", "typos"]
DOCS = ["pillow", "sphinx>=7", "towncrier"]
HOOKS = ["pre-commit"]

setup(
    name="txmicro",
    version=run_path(str(HERE / "txmicro" / "_version.py"))["__version__"],
    description="Small workers on one message bus: an event-driven microservice framework for Twisted",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    python_requires=">=3.11",
    # twisted.plugins is a namespace that Twisted extends: our file goes in beside its own.
    # txmicro/examples is a link to examples, so that these have one name, in a checkout and where they are installed.
    packages=[*find_packages(include=["txmicro", "txmicro.*"]), "twisted.plugins"],
    package_data={
        "txmicro": ["py.typed"],
        "txmicro.page": ["static/*", "static/*/*"],
        "txmicro.examples": ["*/README.rst"],
        "txmicro.examples.movies": ["*.json"],
    },
    entry_points={
        "console_scripts": ["txmicro = txmicro.cli.main:main"],
        "txmicro.workers": [
            "WA = txmicro.examples.movies.workers:RestWorker",
            "WB = txmicro.examples.movies.workers:DBWorker",
            "WC = txmicro.examples.movies.workers:LoggerWorker",
            "WD = txmicro.examples.movies.workers:PilotWorker",
        ],
    },
    install_requires=DEPENDENCIES,
    extras_require={"tls": TLS, "otel": OTEL, "test": TEST, "dev": TEST + LINT + DOCS + HOOKS},
    classifiers=[
        "Framework :: Twisted",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Typing :: Typed",
    ],
)
