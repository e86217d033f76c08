#include "FinalText.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "../Server/Fields.hpp"

namespace Net::SMTP {

namespace {

// Takes the CR out of each CRLF, in place; says how much is left.
std::size_t without_cr(char* text, std::size_t size) {
    char* out = text;
    const char* const end = text + size;
    for (const char* in = text; in != end;) {
        const auto* cr = static_cast<const char*>(std::memchr(in, '\r', std::size_t(end - in)));
        const auto* stop = cr ? cr : end;
        std::memmove(out, in, std::size_t(stop - in));
        out += stop - in;
        in = stop;
        if (!cr) break;
        if (++in == end || *in != '\n') *out++ = '\r';
    }
    return std::size_t(out - text);
}

}  // namespace

FinalText::FinalText(const Sender& from, const std::string& head, const Message& message, LineEnds line_ends)
    : front_(return_path_field(from) + head), message_(message), lf_(line_ends == LineEnds::lf), buffer_(piece, '\0') {
    if (message.sunk())
        throw std::system_error(ENODATA, std::generic_category(), "deliver a message that went into a sink");
}

std::string_view FinalText::next() {
    for (;;) {
        std::size_t size = 0;
        if (after_cr_) buffer_[size++] = '\r';
        const auto more = fill(buffer_.data() + size, piece - size);
        size += more;
        after_cr_ = lf_ && more > 0 && buffer_[size - 1] == '\r';
        if (after_cr_) --size;
        if (lf_) size = without_cr(buffer_.data(), size);
        if (size > 0 || more == 0) return {buffer_.data(), size};
    }
}

// Both sources fill one piece, so that what is written is of even size.
std::size_t FinalText::fill(char* to, std::size_t size) {
    const auto whole = front_.size() + message_.size();
    std::size_t done = 0;
    if (offset_ < front_.size()) {
        done = front_.copy(to, size, offset_);
        offset_ += done;
    }
    while (done < size && offset_ < whole) {
        const auto n = message_.read(offset_ - front_.size(), to + done, size - done);
        if (n == 0) throw std::system_error(EIO, std::generic_category(), "read a message");
        done += n;
        offset_ += n;
    }
    return done;
}

}  // namespace Net::SMTP
