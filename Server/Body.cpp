#include "Body.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <system_error>

#include "Content.hpp"
#include "Files.hpp"
#include "Header.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// Read in pieces of this size once a message is larger: the caches hold it, and copying out of the socket is best so.
constexpr std::size_t piece = 64 * 1024;
constexpr std::size_t least_room = 4 * 1024;

class FunctionSink : public Sink {
public:
    explicit FunctionSink(std::function<void(std::string_view)> write) : write_(std::move(write)) {}
    void write(std::string_view octets) override { write_(octets); }

private:
    std::function<void(std::string_view)> write_;
};

class DescriptorSink : public Sink {
public:
    explicit DescriptorSink(int fd) : fd_(fd) {
        struct stat s {};
        file_ = fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
    }
    void write(std::string_view octets) override {
        if (file_) write_all(fd_, octets.data(), octets.size());
        else write_waiting(fd_, octets.data(), octets.size(), 180s);
    }

private:
    int fd_;
    bool file_ = false;
};

const Reply too_large{552, "5.3.4", "Message is too large"};
const Reply no_storage{452, "4.3.1", "Insufficient system storage"};
const Reply not_crlf{554, "5.6.0", "Message holds a CR or LF that stands alone (RFC 5321 2.3.8)"};
const Reply failed{451, "4.3.0", "Local error in processing"};

}  // namespace

std::shared_ptr<Sink> make_sink(std::function<void(std::string_view)> write) {
    return std::make_shared<FunctionSink>(std::move(write));
}

std::shared_ptr<Sink> make_sink(int fd) { return std::make_shared<DescriptorSink>(fd); }

Body::Body(Connection& connection, const Options& options, std::shared_ptr<Content> content, std::shared_ptr<Sink> sink,
           Deadline session_end)
    : connection_(connection),
      options_(options),
      content_(std::move(content)),
      sink_(std::move(sink)),
      decoder_(options.bare_line_ends, TextDecoder::Dots::stuffed),
      started_(Clock::now()),
      session_end_(session_end),
      incomplete_(options.complete && !sink_) {
    if (incomplete_) first_ = held_ = most_missing;
}

Body::~Body() { abandon(); }

void Body::abandon() {
    if (ended_ || !sink_) return;
    ended_ = true;
    guard([&] { sink_->end(false); });
}

// The program's code must not tear the session down: what it throws is the refusal.
void Body::guard(const std::function<void()>& action) {
    try {
        action();
    } catch (const Reject& r) {
        hangs_up_ |= dynamic_cast<const Hangup*>(&r) != nullptr;
        refuse(r.reply());
    } catch (const std::system_error& e) {
        trouble_ = e.what();
        refuse(no_storage);
    } catch (const std::exception& e) {
        trouble_ = e.what();
        refuse(failed);
    } catch (...) {
        trouble_ = "an exception of an unknown type";
        refuse(failed);
    }
}

void Body::refuse(Reply reply) {
    if (refusal_) return;
    refusal_ = std::move(reply);
    content_->file.reset();
    first_ = held_ = 0;
    incomplete_ = false;
}

Deadline Body::deadline() const {
    auto d = std::min({Clock::now() + options_.block_timeout, started_ + options_.data_timeout, session_end_});
    if (options_.min_data_rate > 0) {
        constexpr std::uint64_t year = 365 * 86400;  // more would not fit into the clock
        const std::chrono::seconds earned(std::min(received_ / options_.min_data_rate, year));
        d = std::min(d, started_ + options_.data_grace + earned);
    }
    return d;
}

Body::Ending Body::ending(Connection::Got got) const {
    return got == Connection::Got::timeout ? Ending::slow : Ending::lost;
}

bool Body::ready() { return content_->block.capacity() > 0 || content_->block.grow(piece); }

// Writes what the block holds to the sink or the file and empties it.
bool Body::write_out() {
    if (held_ == first_ || refusal_) return !refusal_;
    const std::string_view octets(content_->block.data() + first_, held_ - first_);
    guard([&] {
        if (sink_) return sink_->write(octets);
        if (!content_->file) content_->file = unnamed_file(options_.spool_dir);
        write_all(content_->file.get(), octets.data(), octets.size());
    });
    first_ = held_ = 0;
    // What stood in memory so far has moved to the file; others can use the room.
    if (content_->block.capacity() > piece) content_->block.release();
    return !refusal_;
}

// Puts the fields that are missing into the room in front of what is held. False when its header section is not all
// here.
bool Body::add_missing(bool all) {
    char* const text = content_->block.data() + first_;
    const auto fields =
        missing_fields({text, held_ - first_}, all, content_->id, options_.hostname, std::time(nullptr));
    if (!fields) return false;
    fields->copy(text - fields->size(), fields->size());
    first_ -= fields->size();
    added_ = fields->size();
    incomplete_ = false;
    return true;
}

// The block is full: whether more of a header section can be held, because no file may begin before it is complete.
bool Body::hold_header() {
    if (!incomplete_ || add_missing(false)) return false;
    if (content_->block.grow(most_header + piece)) return true;
    refuse(no_storage);
    return false;
}

// Room for the next octets behind those held: the block grows, or is written out.
bool Body::prepare(std::size_t lead_unit) {
    auto& block = content_->block;
    const auto room = [&] { return block.capacity() - held_; };
    const bool streams = sink_ || content_->file;
    if (streams && !write_out()) return false;
    while (room() < least_room * lead_unit || (streams && block.capacity() < piece)) {
        const bool in_memory = !streams && size_ < options_.spool_above;
        if (block.grow(in_memory ? options_.spool_above + piece : piece)) continue;
        if (room() >= least_room * lead_unit) break;  // small, but it will do
        if (hold_header()) continue;
        if (!write_out()) return false;
        if (room() < least_room * lead_unit && !block.grow(piece)) return refuse(no_storage), false;
        break;
    }
    return true;
}

void Body::keep(std::size_t produced) {
    held_ += produced;
    size_ += produced;
    if (options_.max_message_size > 0 && size_ > options_.max_message_size) refuse(too_large);
    else if (!sink_ && !content_->file && !incomplete_ && size_ > options_.spool_above) write_out();
}

void Body::check_bare() {
    if (decoder_.bare() && options_.bare_line_ends == BareLineEnds::reject) refuse(not_crlf);
}

Body::Ending Body::text() {
    auto& block = content_->block;
    // Normalizing may double the text: then input is put into the rear half of the room.
    const bool doubling = options_.bare_line_ends == BareLineEnds::normalize;
    while (!refusal_) {
        if (!prepare(doubling ? 2 : 1)) break;
        const std::size_t room = block.capacity() - held_;
        auto want = doubling ? room / 2 - 2 : room - 1;
        if (sink_ || content_->file) want = std::min(want, piece);
        char* const out = block.data() + held_;
        char* const in = out + decoder_.lead(want);
        std::size_t got = 0;
        const auto result = connection_.receive(in, want, got, deadline());
        if (result != Connection::Got::data) return ending(result);
        received_ += got;

        const auto decoded = decoder_.decode(in, got, out);
        if (decoded.done) connection_.unread({in + decoded.consumed, got - decoded.consumed});
        keep(decoded.produced);
        check_bare();
        if (decoded.done) return Ending::read;
    }
    return discard_text();
}

Body::Ending Body::discard_text() {
    char waste[2048];
    for (;;) {
        if (wasted_ > options_.drain) return Ending::flood;
        std::size_t got = 0;
        // The front takes what decode() makes of the rear.
        char* const in = waste + sizeof waste / 2;
        const auto result = connection_.receive(in, sizeof waste / 2 - 2, got, deadline());
        if (result != Connection::Got::data) return ending(result);
        received_ += got;
        wasted_ += got;
        const auto decoded = decoder_.decode(in, got, waste);
        if (!decoded.done) continue;
        connection_.unread({in + decoded.consumed, got - decoded.consumed});
        return Ending::read;
    }
}

Body::Ending Body::chunk(std::uint64_t left, bool binary) {
    if (!chunked_) decoder_ = TextDecoder(options_.bare_line_ends, TextDecoder::Dots::plain);
    chunked_ = true;
    binary_ |= binary;
    if (!refusal_ && options_.max_message_size > 0 &&
        left > options_.max_message_size - std::min(size_, options_.max_message_size))
        refuse(too_large);
    auto& block = content_->block;
    const bool doubling = !binary && options_.bare_line_ends == BareLineEnds::normalize;
    while (left > 0 && !refusal_) {
        if (!prepare(doubling ? 2 : 1)) break;
        const std::size_t room = block.capacity() - held_;
        auto want = std::size_t(std::min<std::uint64_t>(left, doubling ? room / 2 - 2 : room - 1));
        if (sink_ || content_->file) want = std::min(want, piece);
        char* const out = block.data() + held_;
        char* const in = out + (binary ? 0 : decoder_.lead(want));
        std::size_t got = 0;
        const auto result = connection_.receive(in, want, got, deadline());
        if (result != Connection::Got::data) return ending(result);
        received_ += got;
        left -= got;
        keep(binary ? got : decoder_.decode(in, got, out).produced);
        if (!binary) check_bare();
    }
    return left > 0 ? discard_chunk(left) : Ending::read;
}

Body::Ending Body::discard_chunk(std::uint64_t left) {
    char waste[2048];
    while (left > 0) {
        if (wasted_ > options_.drain) return Ending::flood;
        std::size_t got = 0;
        const auto want = std::size_t(std::min<std::uint64_t>(left, sizeof waste));
        const auto result = connection_.receive(waste, want, got, deadline());
        if (result != Connection::Got::data) return ending(result);
        received_ += got;
        wasted_ += got;
        left -= got;
    }
    return Ending::read;
}

bool Body::complete() {
    if (chunked_ && !refusal_) {
        const auto rest = decoder_.finish();
        check_bare();
        if (!rest.empty() && prepare(1)) {
            rest.copy(content_->block.data() + held_, rest.size());
            keep(rest.size());
        }
    }
    if (incomplete_) add_missing(true);
    if (!refusal_ && (sink_ || content_->file || size_ > options_.spool_above)) write_out();
    if (sink_ && !ended_) {
        ended_ = true;
        const bool whole = !refusal_;
        guard([&] { sink_->end(whole); });
    }
    if (refusal_) return false;
    content_->size = size_ + added_;
    content_->front = first_;
    content_->sunk = sink_ != nullptr;
    if (!binary_) {
        const bool bare = decoder_.bare() && options_.bare_line_ends == BareLineEnds::accept;
        content_->bare = bare ? Content::Bare::yes : Content::Bare::no;
    }
    return true;
}

}  // namespace Net::SMTP
