// MessageEdit -- Message::edited(): the same message with another header section.
#include <cstdint>
#include <stdexcept>

#include "Content.hpp"
#include "Files.hpp"
#include "Header.hpp"
#include "Message.hpp"
#include "Shared.hpp"
#include "Text.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t piece = 64 * 1024;

bool reserve(Block& block, std::uint64_t size) {
    while (block.capacity() < size)
        if (!block.grow(size)) return false;
    return true;
}

// Nothing yet; in memory that will do for `most` octets, or in a file.
std::shared_ptr<Content> empty_content(const Shared* server, std::uint64_t most, bool file) {
    const auto budget = server ? server->memory : std::make_shared<Budget>(UINT64_MAX);
    auto content = std::make_shared<Content>(budget);
    if (!file && reserve(content->block, most)) return content;
    content->block.release();
    content->file = unnamed_file(server ? server->options.spool_dir : Options().spool_dir);
    return content;
}

void append(Content& content, std::string_view octets) {
    if (octets.empty()) return;
    if (content.file) write_all(content.file.get(), octets.data(), octets.size());
    else octets.copy(content.block.data() + content.size, octets.size());
    content.size += octets.size();
}

template <class Each>
void each_piece(const Message& message, Each each) {
    std::string room(message.spooled() ? piece : 0, '\0');
    const auto size = message.size();
    for (std::uint64_t offset = 0; offset < size; offset += piece) {
        if (!message.spooled()) each(message.view().substr(std::size_t(offset), piece));
        else each(std::string_view(room.data(), message.read(offset, room.data(), room.size())));
    }
}

bool no_bare_line_ends(std::string_view text) {
    bool after_cr = false;
    return !bare_line_ends(text, after_cr) && !after_cr;
}

}  // namespace

Message Message::edited(const HeaderEdit& edit) const {
    if (sunk()) throw std::logic_error("edited(): the message went into a sink");
    if (!edit.front.empty() && !edit.front.ends_with("\r\n")) throw std::invalid_argument("edited(): not whole fields");
    const auto* server = some().shared.get();
    const auto to = empty_content(server, edit.front.size() + size(), spooled());
    append(*to, edit.front);

    FieldFilter filter(edit.without);
    std::string kept;
    each_piece(*this, [&](std::string_view text) {
        kept.clear();
        const auto behind = filter.feed(text, kept);
        append(*to, kept);
        append(*to, behind);
    });
    kept.clear();
    filter.finish(kept);
    append(*to, kept);

    to->received = edit.received.value_or(own_received());
    if (octets()->bare == Content::Bare::no && no_bare_line_ends(edit.front)) to->bare = Content::Bare::no;
    Message out(*this);
    out.edited_ = to;
    return out;
}

}  // namespace Net::SMTP
