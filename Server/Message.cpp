#include "Message.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <istream>
#include <streambuf>
#include <system_error>

#include "Address.hpp"
#include "Content.hpp"
#include "Files.hpp"
#include "Header.hpp"
#include "Text.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t piece = 64 * 1024;

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

std::string unfolded(std::string_view value) {
    while (!value.empty() && blank(value.front())) value.remove_prefix(1);
    while (!value.empty() && blank(value.back())) value.remove_suffix(1);
    std::string out;
    for (char c : value)
        if (c != '\r' && c != '\n') out += c;
    return out;
}

// Reads a Message in pieces; keeps a copy of it, so its octets stay.
class MessageBuffer : public std::streambuf {
public:
    explicit MessageBuffer(Message message) : message_(std::move(message)), piece_(piece, '\0') {}

protected:
    int_type underflow() override {
        const auto n = message_.read(offset_, piece_.data(), piece_.size());
        if (n == 0) return traits_type::eof();
        offset_ += n;
        setg(piece_.data(), piece_.data(), piece_.data() + n);
        return traits_type::to_int_type(piece_[0]);
    }
    pos_type seekoff(off_type by, std::ios_base::seekdir from, std::ios_base::openmode) override {
        const auto here = off_type(offset_) - (egptr() - gptr());
        const auto base = from == std::ios_base::beg   ? 0
                          : from == std::ios_base::cur ? here
                                                       : off_type(message_.size());
        if (by < -base || by > off_type(message_.size()) - base) return pos_type(off_type(-1));
        const auto to = base + by;
        if (to != here) {
            offset_ = std::uint64_t(to);
            setg(nullptr, nullptr, nullptr);
        }
        return to;
    }
    pos_type seekpos(pos_type to, std::ios_base::openmode which) override {
        return seekoff(off_type(to), std::ios_base::beg, which);
    }

private:
    Message message_;
    std::string piece_;
    std::uint64_t offset_ = 0;
};

class MessageStream : public std::istream {
public:
    explicit MessageStream(const Message& message) : std::istream(nullptr), buffer_(message) { rdbuf(&buffer_); }

private:
    MessageBuffer buffer_;
};

const Trace no_trace;
const std::string no_id;

}  // namespace

// ---- Content ----

Content::~Content() { unmap(); }

void Content::unmap() {
    if (const char* at = mapped) munmap(const_cast<char*>(at), size);
    mapped = nullptr;
}

void Content::clear() {
    unmap();
    own.clear();
    front = 0;
    file.reset();
    sunk = false;
    named = false;
    size = 0;
    bare = Bare::unknown;
    id.clear();
    each = false;
    sender_present = nullptr;
    baggage.reset();
}

// ---- Message ----

Message::Message() = default;
Message::Message(std::string text) : content_(std::make_shared<Content>(nullptr)) {
    content_->own = std::move(text);
    content_->size = content_->own.size();
}
Message::Message(std::shared_ptr<Content> content) : content_(std::move(content)) {}
Message::~Message() = default;
Message::Message(const Message&) = default;
Message& Message::operator=(const Message&) = default;
Message::Message(Message&&) noexcept = default;
Message& Message::operator=(Message&&) noexcept = default;

std::uint64_t Message::size() const { return octets() ? octets()->size : 0; }
bool Message::spooled() const { return octets() && octets()->file; }
bool Message::sunk() const { return octets() && octets()->sunk; }
OwnReceived Message::own_received() const { return octets() ? octets()->received : OwnReceived::due; }

std::string_view Message::view() const {
    const auto& from = octets();
    if (!from || from->sunk || from->size == 0) return {};
    if (from->in_memory()) return from->memory();
    const auto size = std::size_t(from->size);
    const char* at = from->mapped;
    if (!at) {
        void* mine = mmap(nullptr, size, PROT_READ, MAP_SHARED, from->file.get(), 0);
        if (mine == MAP_FAILED) fail("map a message");
        // Another thread may have been first: there is one for all.
        if (from->mapped.compare_exchange_strong(at, static_cast<const char*>(mine)))
            at = static_cast<const char*>(mine);
        else munmap(mine, size);
    }
    return {at, size};
}

std::size_t Message::read(std::uint64_t offset, char* to, std::size_t size) const {
    const auto& from = octets();
    if (!from || from->sunk || offset >= from->size) return 0;
    size = std::size_t(std::min<std::uint64_t>(size, from->size - offset));
    if (from->in_memory()) {
        std::memcpy(to, from->memory().data() + offset, size);
        return size;
    }
    std::size_t done = 0;
    while (done < size) {
        const auto n = pread(from->file.get(), to + done, size - done, off_t(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = EIO;  // shorter than we wrote it
        if (n <= 0) fail("read a message");
        done += std::size_t(n);
    }
    return done;
}

std::vector<std::string> Message::headers(std::string_view name) const {
    std::vector<std::string> out;
    std::string room;
    each_field(header_part(*this, room), [&](std::string_view field, std::string_view value) {
        if (same_text(field, name)) out.push_back(unfolded(value));
    });
    return out;
}

std::optional<std::string> Message::header(std::string_view name) const {
    auto all = headers(name);
    if (all.empty()) return std::nullopt;
    return std::move(all.front());
}

std::unique_ptr<std::istream> Message::stream() const { return std::make_unique<MessageStream>(*this); }

void Message::write_to(int fd) const {
    const auto& from = octets();
    if (!from || from->sunk) return;
    if (from->in_memory()) return write_all(fd, from->memory().data(), from->memory().size());
    off_t offset = 0;
    const auto end = off_t(from->size);
    while (offset < end) {
        const auto n = sendfile(fd, from->file.get(), &offset, std::size_t(std::min<off_t>(end - offset, 1 << 30)));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EINVAL || errno == ENOSYS)) break;  // not for this kind of descriptor
        if (n == 0) errno = EIO;
        if (n <= 0) fail("write a message");
    }
    std::string buffer(offset < end ? piece : 0, '\0');
    while (offset < end) {
        const auto n = read(std::uint64_t(offset), buffer.data(), buffer.size());
        write_all(fd, buffer.data(), n);
        offset += off_t(n);
    }
}

void Message::save(const std::string& path, unsigned mode) const {
    auto& account = custody();
    account.begin();
    try {
        if (sunk()) throw std::logic_error("save(): the message went into a sink");
        // The spool file itself gets the first name; another save is another file.
        const bool named = spooled() && !octets()->named && name_durably(octets()->file.get(), path, mode);
        if (named) octets()->named = true;
        else create_durably(path, mode, [&](int fd) { write_to(fd); });
    } catch (...) {
        account.settle({452, "4.3.1", "The message could not be stored"});
        throw;
    }
    account.settle({250, "2.0.0", "Saved"});
}

bool Message::bare_line_ends() const {
    const auto& from = octets();
    if (!from) return false;
    if (const auto known = from->bare.load(std::memory_order_relaxed); known != Content::Bare::unknown)
        return known == Content::Bare::yes;
    bool after_cr = false, bare = from->in_memory() && SMTP::bare_line_ends(from->memory(), after_cr);
    std::string buffer(from->in_memory() ? 0 : std::min<std::uint64_t>(size(), piece), '\0');
    std::uint64_t offset = 0;
    while (const auto n = bare ? 0 : read(offset, buffer.data(), buffer.size())) {
        bare = SMTP::bare_line_ends({buffer.data(), n}, after_cr);
        offset += n;
    }
    bare = bare || after_cr;
    from->bare.store(bare ? Content::Bare::yes : Content::Bare::no, std::memory_order_relaxed);
    return bare;
}

bool Message::sender_present() const { return !content_ || !content_->sender_present || content_->sender_present(); }

const Trace& Message::trace() const { return content_ && content_->trace ? *content_->trace : no_trace; }
const std::string& Message::id() const { return content_ ? content_->id : no_id; }
std::time_t Message::received_at() const { return content_ ? content_->received_at : 0; }

// An empty message has no octets to keep, but may be spoken for and carry something all the same.
Content& Message::some() const {
    if (!content_) content_ = std::make_shared<Content>(nullptr);
    return *content_;
}

Custody& Message::custody() const { return some().custody; }
std::any& Message::baggage() const { return some().baggage; }

}  // namespace Net::SMTP
