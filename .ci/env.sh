# What the libtorch and wgpu backends need on a machine that has neither libtorch nor a GPU:
#
#     source .ci/env.sh
#     cargo run --release --features ndarray,libtorch,wgpu -- backends
#
# Brings, under ${XDG_CACHE_HOME:-~/.cache}/foretoken and only when missing there:
#   - PyTorch 2.9.0, the libtorch that Burn links against, in a virtual environment of its own
#     (needs python3 with venv), and there too Hugging Face's tokenizers and transformers, which tests compare ours with;
#   - unless there is a GPU with a Vulkan loader: SwiftShader, a Vulkan driver for the CPU, and a
#     loader, unpacked from Debian's chromium-common (needs apt-get; nothing is installed).
# Sets: LIBTORCH, PATH, LD_LIBRARY_PATH and, for SwiftShader, VK_DRIVER_FILES.
# For bash; returns non-zero, with the reason, when something cannot be had.

foretoken_cache=${XDG_CACHE_HOME:-$HOME/.cache}/foretoken

# Puts the directory $2 first in the list of directories named $1, once.
foretoken_prepend() {
    case ":${!1:-}:" in
        *":$2:"*) ;;
        *) export "$1=$2${!1:+:${!1}}" ;;
    esac
}

foretoken_libtorch() {
    local venv=$foretoken_cache/torch-2.9.0
    if ! "$venv/bin/python3" -c 'import torch, numpy, tokenizers, transformers' 2>/dev/null; then
        echo "installing PyTorch 2.9.0, tokenizers and transformers in $venv" >&2
        rm -rf "$venv"
        python3 -m venv "$venv" || {
            echo "python3 cannot make a virtual environment: install python3 and python3-venv" >&2
            return 1
        }
        local pip=("$venv/bin/python3" -m pip install --quiet --disable-pip-version-check)
        "${pip[@]}" numpy tokenizers==0.23.2 torch==2.9.0 transformers==5.23.0 || {
            echo "pip cannot install torch==2.9.0: it exists for Python 3.10 to 3.14" >&2
            rm -rf "$venv"
            return 1
        }
    fi
    # Only what a CPU needs. PyTorch's wheel has CUDA's libraries too, which no backend here calls, and a program that
    # is linked with them takes a second and 0.4 GB to start.
    local torch cpu=$foretoken_cache/libtorch-cpu-2.9.0
    torch=$(echo "$venv"/lib/python3*/site-packages/torch)
    mkdir -p "$cpu/lib" &&
        ln -sfn "$torch/include" "$cpu/include" &&
        ln -sfn "$torch"/lib/libc10.so "$torch"/lib/libtorch_cpu.so "$torch"/lib/libgomp* "$cpu/lib/" &&
        ln -sfn "$torch/lib/libtorch_cpu.so" "$cpu/lib/libtorch.so" || return
    export LIBTORCH=$cpu
    foretoken_prepend PATH "$venv/bin"
    foretoken_prepend LD_LIBRARY_PATH "$torch/lib"
}

foretoken_vulkan() {
    # A driver chosen by the user, or a GPU that the system's loader can reach.
    if [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then return; fi
    if { [ -e /dev/nvidia0 ] || compgen -G '/dev/dri/renderD*' >/dev/null; } &&
        ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then return; fi

    local driver=$foretoken_cache/swiftshader
    if ! [ -e "$driver/vk_swiftshader_icd.json" ]; then
        echo "unpacking SwiftShader in $driver" >&2
        local work
        work=$(mktemp -d "$foretoken_cache/swiftshader.XXXXXX") || return
        # Unpacked beside its place and moved there last: complete or absent.
        (
            cd "$work" && mkdir ready &&
                { apt-get -q download chromium-common 2>/dev/null ||
                    { apt-get -q update && apt-get -q download chromium-common; }; } &&
                dpkg -x chromium-common*.deb unpacked &&
                cp unpacked/usr/lib/chromium/{libvulkan.so.1,libvk_swiftshader.so,vk_swiftshader_icd.json} ready &&
                mv -T ready "$driver"
        ) >&2 || {
            rm -rf "$work"
            echo "no SwiftShader from Debian's packages: install a Vulkan driver" \
                "(mesa-vulkan-drivers has one for the CPU) and set VK_DRIVER_FILES to its .json" >&2
            return 1
        }
        rm -rf "$work"
    fi
    export VK_DRIVER_FILES=$driver/vk_swiftshader_icd.json
    foretoken_prepend LD_LIBRARY_PATH "$driver"
}

mkdir -p "$foretoken_cache" && foretoken_libtorch && foretoken_vulkan
